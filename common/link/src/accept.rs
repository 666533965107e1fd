//! The cloud's side of a new WebSocket connection.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::budget::{Meter, Metered};
use crate::connection::{Stream, limits, split};
use crate::{AcceptError, Budget, HANDSHAKE_TIMEOUT, Link, USE_MESSAGES, frames};

/// What an edge says of itself in its upgrade request. Nothing here is trusted before it is compared with the
/// certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub node_id: String,
    pub project_id: String,
}

/// Why a connection is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Never; the text goes to the peer.
    Forbidden(String),
    /// Not now.
    Busy(Duration),
}

/// An upgraded connection.
pub struct Accepted {
    pub hello: Hello,
    pub link: Link,
}

/// Turns TCP streams into connections.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    max_message: usize,
    budget: Budget,
}

impl Acceptor {
    /// `config` must require client certificates. `max_message` is the largest message read, in bytes; `budget` bounds
    /// what all connections read at once.
    pub fn new(config: Arc<rustls::ServerConfig>, max_message: usize, budget: Budget) -> Acceptor {
        Acceptor { tls: TlsAcceptor::from(config), max_message, budget }
    }

    /// TLS over `tcp`, which should have `TCP_NODELAY`, then the upgrade. `check` sees the peer's certificate and its hello; its refusal goes to the peer as a 403
    /// or 503 answer. Any path is accepted, as the Go server does. A peer that offers the native dialect gets it.
    ///
    /// # Errors
    /// [`AcceptError`]: the handshake failed or took too long, or `check` refused the peer.
    pub async fn accept<S, F>(&self, tcp: S, check: F) -> Result<Accepted, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send + Unpin,
    {
        let work = self.handshake(tcp, check);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, work)
            .await
            .map_err(|_| AcceptError::TimedOut(HANDSHAKE_TIMEOUT))?
    }

    #[allow(clippy::result_large_err)] // The WebSocket library dictates the type of the callback.
    async fn handshake<S, F>(&self, tcp: S, check: F) -> Result<Accepted, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), Refusal> + Send + Unpin,
    {
        let tls = self.tls.accept(tcp).await.map_err(AcceptError::Tls)?;
        let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.ok_or(AcceptError::NoCertificate)?.clone().into_owned();
        let meter = Meter::new(self.budget.clone());
        let stream: Stream = Box::new(Metered::new(tls, meter.clone()));
        let (mut hello, mut native, mut refusal) = (Hello::default(), false, None);
        let callback = |request: &Request, mut response: Response| {
            let read = read_hello(request).and_then(|read| check(&certificate, &read).map(|()| read));
            match read {
                Ok(read) => {
                    hello = read;
                    native = offers_native(request);
                    if native {
                        let name = HeaderValue::from_static(native::NAME);
                        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
                    }
                    Ok(response)
                }
                Err(refused) => {
                    refusal = Some(refused.clone());
                    Err(refuse(refused))
                }
            }
        };
        let limits = limits(self.max_message);
        let upgraded = tokio_tungstenite::accept_hdr_async_with_config(stream, callback, Some(limits)).await;
        match (upgraded, refusal) {
            (Ok(socket), None) => {
                let link = if native {
                    let (sender, receiver) = frames::split(socket, Some(meter));
                    Link::Native(sender, receiver)
                } else {
                    let (sender, receiver) = split(socket, self.max_message, Some(meter));
                    Link::KubeEdge(sender, receiver)
                };
                Ok(Accepted { hello, link })
            }
            (_, Some(Refusal::Forbidden(text))) => Err(AcceptError::Refused(text)),
            (_, Some(Refusal::Busy(wait))) => Err(AcceptError::Busy(wait)),
            (Err(error), None) => Err(AcceptError::Upgrade(Box::new(error))),
        }
    }
}

fn read_hello(request: &Request) -> Result<Hello, Refusal> {
    // Go clients repeat headers on retries; `get` takes the first.
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let connection_use = header("connectionuse");
    if connection_use != USE_MESSAGES {
        let text = format!("header Connectionuse must be {USE_MESSAGES:?}, not {connection_use:?}");
        return Err(Refusal::Forbidden(text));
    }
    Ok(Hello { node_id: header("node_id").to_owned(), project_id: header("project_id").to_owned() })
}

fn offers_native(request: &Request) -> bool {
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut names = offers.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.any(|name| name.trim() == native::NAME)
}

fn refuse(refusal: Refusal) -> ErrorResponse {
    match refusal {
        Refusal::Forbidden(text) => answer(StatusCode::FORBIDDEN, text),
        Refusal::Busy(wait) => {
            let text = format!("busy, try again after {} ms", wait.as_millis());
            let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, text);
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(wait.as_millis() as u64));
            response
        }
    }
}

/// The exact wait, beside the standard header that counts seconds.
pub(crate) const RETRY_AFTER_MS: &str = "retry-after-ms";

fn answer(status: StatusCode, text: String) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text));
    *response.status_mut() = status;
    response
}
