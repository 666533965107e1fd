//! Doors: bound sockets, and the connections that come through them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Client, Listen, Place, Terms};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::tls::{Guard, Shown};
use super::{BuildError, ServerState, TlsPort, answer};

/// 128 connections open at once through each door. What is under way at the stop is given up soon: sessions hear of it
/// by themselves.
const TERMS: Terms =
    Terms { what: "the Node API", places: 128, first_byte: PATIENCE, drain: Duration::from_secs(1) };
/// A client that does not say what it wants, or does not finish its handshake, leaves.
const PATIENCE: Duration = Duration::from_secs(15);
/// The head of a request: commands are part of it.
const HEAD: usize = 64 * 1024;
const HEADERS: usize = 64;

pub(super) enum Door {
    Unix { listener: UnixListener },
    Plain { listener: TcpListener },
    Tls { listener: TcpListener, guard: Box<Guard> },
}

async fn bind(address: SocketAddr) -> Result<TcpListener, BuildError> {
    TcpListener::bind(address).await.map_err(|source| BuildError::Port { address, source })
}

pub(super) async fn authenticated(port: &TlsPort) -> Result<Door, BuildError> {
    let guard = Guard::new(port).map_err(|source| BuildError::Tls { address: port.address, source })?;
    Ok(Door::Tls { listener: bind(port.address).await?, guard: Box::new(guard) })
}

/// Serves nobody until there is a certificate to show.
pub(super) async fn awaiting(port: &TlsPort, shown: Shown) -> Result<Door, BuildError> {
    Ok(Door::Tls { listener: bind(port.address).await?, guard: Box::new(Guard::awaiting(port, shown)) })
}

pub(super) async fn loopback(address: SocketAddr) -> Result<Door, BuildError> {
    tracing::warn!(peer = %address, "the Node API is open to every program of this machine");
    Ok(Door::Plain { listener: bind(address).await? })
}

impl Door {
    /// Serves until `stop`.
    pub(super) async fn serve(self, site: Arc<ServerState>, stop: CancellationToken) {
        match self {
            Door::Unix { listener } => open(listener, site, stop).await,
            Door::Plain { listener } => open(listener, site, stop).await,
            Door::Tls { listener, guard } => {
                let serve = move |client: Client<TcpListener>| {
                    authenticated_client(client, (*guard).clone(), site.clone())
                };
                listener::serve(listener, TERMS, stop, serve).await;
            }
        }
    }
}

async fn open<L: Listen>(listener: L, site: Arc<ServerState>, stop: CancellationToken) {
    let serve = move |client: Client<L>| {
        let site = site.clone();
        async move { talk(client.stream, client.place, site, None).await }
    };
    listener::serve(listener, TERMS, stop, serve).await;
}

async fn authenticated_client(client: Client<TcpListener>, guard: Guard, site: Arc<ServerState>) {
    let fresh = guard.clone();
    // It fails only if it panics, and then the certificates in use stay.
    let _ = daemon::blocking(move || {
        fresh.refresh();
        Ok(())
    })
    .await;
    let Some(acceptor) = guard.acceptor() else {
        return tracing::debug!(peer = %client.peer, "the Node API has no certificate to show yet");
    };
    let shaken = tokio::time::timeout(PATIENCE, acceptor.accept(client.stream)).await;
    // Who has no certificate of the CA gets no further than the handshake.
    let Ok(Ok(stream)) = shaken else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let refused = match certificate {
        Some(certificate) => guard.refuses(certificate),
        None => Some("no certificate".to_owned()),
    };
    talk(stream, client.place, site, refused).await;
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: Place,
    site: Arc<ServerState>,
    refused: Option<String>,
) {
    let service = service_fn(|request| {
        place.settle();
        let (site, refused) = (site.clone(), refused.clone());
        async move {
            Ok::<_, Infallible>(match refused {
                Some(name) => answer::text(StatusCode::FORBIDDEN, format!("{name:?} is not served here")),
                None => site.answer(request).await,
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "connection to the Node API ended");
    }
}
