//! The accept loop: TLS, then HTTP/1.1 or HTTP/2 per connection, each in its own task with its own limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Peer;
use crate::context::Context;
use crate::dispatch;
use crate::tls::Tls;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for the headers of a request, which is also how long an idle HTTP/1 connection is kept.
const HEADERS: Duration = Duration::from_secs(90);
/// HTTP/2 peers that do not answer a ping are gone.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_ANSWER: Duration = Duration::from_secs(20);
const STREAMS: u32 = 250;
const HEADER_BYTES: u32 = 64 * 1024;
/// Wait after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests that are still running this long after the stop are aborted.
const DRAIN: Duration = Duration::from_secs(3);

/// Accepts until `stop`, then drains.
pub(crate) async fn serve(listener: TcpListener, tls: Tls, context: Arc<Context>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls.config);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot,
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection =
            connection(stream, acceptor.clone(), tls.verifier.clone(), context.clone(), stop.clone());
        let abort = abort.clone();
        tasks.spawn(async move {
            let _slot = slot;
            abort.run_until_cancelled(connection).await;
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::info!(connections = tasks.len(), "aborted connections that did not end in time");
        abort.cancel();
        tasks.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    verifier: Arc<dyn ClientCertVerifier>,
    context: Arc<Context>,
    stop: CancellationToken,
) {
    // Small watch events should leave at once; a failure only costs latency.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(error = %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = Arc::new(Peer::of(certificates, verifier.as_ref(), daemon::clock::unix_seconds()));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (context, peer) = (context.clone(), peer.clone());
        async move { Ok::<_, Infallible>(dispatch::respond(&context, &peer, request).await) }
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
