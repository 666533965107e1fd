//! HTTP/2 without TLS for one client, as gRPC over unix sockets speaks it.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Cursor};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::Place;

/// What a client of HTTP/2 says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long all of it may take.
const PREFACE_WITHIN: Duration = Duration::from_secs(10);
/// A client in whose connection nothing moves is asked whether it is there, and answers or is gone.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_ANSWER: Duration = Duration::from_secs(20);
/// Calls of one client at once.
const STREAMS: u32 = 32;
/// Bytes of one client that may wait to be read.
const WINDOW: u32 = 256 * 1024;
const HEADER_BYTES: u32 = 64 * 1024;

/// Reads the preface.
///
/// # Errors
/// `TimedOut` if it does not come in time, `InvalidData` if something else comes, `UnexpectedEof` if the client leaves.
pub async fn preface(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut said = [0; PREFACE.len()];
    let read = stream.read_exact(&mut said);
    tokio::time::timeout(PREFACE_WITHIN, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if said != *PREFACE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak HTTP/2"));
    }
    Ok(())
}

/// Serves one client whose preface was read. Its first request settles it; after `stop` what is under way is finished.
///
/// # Errors
/// The client broke the protocol, did not answer a ping, or left in the middle of a request.
pub async fn serve<I, S, B, F>(
    stream: I,
    place: Place,
    stop: CancellationToken,
    service: S,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Send + 'static,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (rest, writer) = tokio::io::split(stream);
    let io = TokioIo::new(tokio::io::join(Cursor::new(PREFACE).chain(rest), writer));
    let service = service_fn(|request| {
        place.settle();
        let answer = service(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADER_BYTES);
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    tokio::select! {
        biased;
        _ = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        served = serving.as_mut() => served,
    }
}
