//! Doors of an API: sockets, with TLS or without, then HTTP/1.1 or HTTP/2 per connection, each with its own limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use listener::{Client, Listen, Place, Stream, Terms};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::dispatch::Api;
use crate::held::Held;
use crate::peer::{Certificate, Origin, Peer};
use crate::request;
use crate::tls::Tls;

/// What one socket offers.
#[derive(Clone)]
pub struct Door {
    /// Its name, for the log and for the backend: "the API port".
    pub what: &'static str,
    pub transport: Transport,
    /// Connections open at once, of which those without a request under way give way to newer ones.
    pub connections: usize,
}

/// What is below HTTP.
#[derive(Clone)]
pub enum Transport {
    Tls(Tls),
    /// Anyone on the way reads and changes what is said, and nobody shows a certificate: for loopback addresses, or where a
    /// setting asks for it.
    Plain,
}

/// Connections of a door, unless it says otherwise.
pub const CONNECTIONS: usize = 4096;
/// Time for the first byte of a connection.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Requests that still run this long after the stop are aborted.
const DRAIN: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for the headers of a request, which is also how long an idle HTTP/1 connection is kept.
const HEADERS: Duration = Duration::from_secs(90);
/// HTTP/2 peers that do not answer a ping are gone.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_ANSWER: Duration = Duration::from_secs(20);
const STREAMS: u32 = 250;
const HEADER_BYTES: u32 = 64 * 1024;

/// Serves an API at one socket until `stop`, then drains. An API may have several doors, each with a call of its own.
pub async fn serve<B, L>(api: Api<B>, listener: L, door: Door, stop: CancellationToken)
where
    B: Backend,
    L: Listen,
    L::Peer: Origin,
{
    let terms = Terms { what: door.what, places: door.connections, first_byte: FIRST_BYTE, drain: DRAIN };
    let connect = move |client| connection(client, door.clone(), api.clone());
    listener::serve(listener, terms, stop, connect).await;
}

async fn connection<B, L>(client: Client<L>, door: Door, api: Api<B>)
where
    B: Backend,
    L: Listen,
    L::Peer: Origin,
{
    let Client { stream, peer, place, stop } = client;
    let address = peer.address();
    let peer = |certificate| Peer { door: Some(door.what), address, certificate };
    match &door.transport {
        Transport::Plain => requests(stream, peer(Certificate::Missing), place, stop, api).await,
        Transport::Tls(tls) => {
            let Some((stream, certificate)) = handshake(stream, tls).await else { return };
            requests(stream, peer(certificate), place, stop, api).await;
        }
    }
}

async fn handshake<S: Stream>(
    stream: S,
    tls: &Tls,
) -> Option<(tokio_rustls::server::TlsStream<S>, Certificate)> {
    let acceptor = TlsAcceptor::from(tls.config.clone());
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("TLS handshake took too long");
            return None;
        }
    };
    let shown = stream.get_ref().1.peer_certificates();
    let certificate = Certificate::of(shown, tls.verifier.as_ref(), daemon::clock::unix_seconds());
    Some((stream, certificate))
}

/// Answers what one connection asks.
async fn requests<B, S>(stream: S, peer: Peer, place: Place, stop: CancellationToken, api: Api<B>)
where
    B: Backend,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = Arc::new(peer);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let busy = place.busy();
        let (api, peer) = (api.clone(), peer.clone());
        async move {
            let asked = request.body().size_hint().lower();
            let response = api.respond(&peer, request.map(request::Incoming::Connection)).await;
            api.backend().moved(asked + response.body().size_hint().lower());
            // Under way until the answer has been sent, or is left.
            Ok::<_, Infallible>(response.map(|body| Held::new(body, busy)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        ended = serving.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended with an error");
    }
}
