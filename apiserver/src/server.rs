//! One connection: TLS, then HTTP/1.1 or HTTP/2 per connection, with its own limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use listener::{Client, Terms};
use rustls::server::danger::ClientCertVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::Peer;
use crate::context::Context;
use crate::tls::Tls;
use crate::{dispatch, request};

/// 4096 connections at once, each with 10 s for its first byte; those without a request give way to newer ones. Requests
/// that still run 3 s after the stop are aborted.
const TERMS: Terms = Terms {
    what: "the API port",
    places: 4096,
    first_byte: Duration::from_secs(10),
    drain: Duration::from_secs(3),
};
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for the headers of a request, which is also how long an idle HTTP/1 connection is kept.
const HEADERS: Duration = Duration::from_secs(90);
/// HTTP/2 peers that do not answer a ping are gone.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_ANSWER: Duration = Duration::from_secs(20);
const STREAMS: u32 = 250;
const HEADER_BYTES: u32 = 64 * 1024;

/// Accepts until `stop`, then drains.
pub(crate) async fn serve(listener: TcpListener, tls: Tls, context: Arc<Context>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls.config);
    let verifier = tls.verifier;
    let connect = move |client| connection(client, acceptor.clone(), verifier.clone(), context.clone());
    listener::serve(listener, TERMS, stop, connect).await;
}

async fn connection(
    client: Client<TcpListener>,
    acceptor: TlsAcceptor,
    verifier: Arc<dyn ClientCertVerifier>,
    context: Arc<Context>,
) {
    let Client { stream, place, stop, .. } = client;
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(error = %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Arc::new(Peer::of(certificates, verifier.as_ref(), daemon::clock::unix_seconds()));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        place.settle();
        let (context, peer) = (context.clone(), peer.clone());
        async move {
            let asked = request.body().size_hint().lower();
            let response =
                dispatch::respond(&context, &peer, request.map(request::Incoming::Connection)).await;
            context.traffic.note(asked + response.body().size_hint().lower());
            Ok::<_, Infallible>(response)
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
