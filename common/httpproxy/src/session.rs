//! A request handed on, and the session it may become.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use hyper_util::rt::TokioIo;

use crate::carry::framed;
use crate::{AskError, Framing, ask};

/// What bounds a request and its session.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long the head of the answer may take.
    pub patience: Duration,
    /// A session in which nothing has moved for so long ends.
    pub idle: Duration,
    /// Whose pings are held back ([`Framing`]).
    pub framing: Framing,
    /// Ends the session.
    pub stop: CancellationToken,
}

/// Asks `onward` over `stream`. Where the answer is an upgrade, the bytes of both connections are carried from then on by a task,
/// which drops `keep` at its end; the caller answers `client` with the head of that answer.
///
/// # Errors
/// [`AskError`]: the connection broke, or no answer came in time.
pub async fn hand_on<S, B, K>(
    stream: S,
    onward: Request<B>,
    client: OnUpgrade,
    terms: Terms,
    keep: K,
) -> Result<Response<Incoming>, AskError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    K: Send + 'static,
{
    let mut answer = ask(stream, onward, terms.patience).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server = hyper::upgrade::on(&mut answer);
        daemon::spawn(async move {
            let session = async {
                if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
                    framed(client, TokioIo::new(server), terms.idle, terms.framing).await;
                }
            };
            tokio::select! {
                () = terms.stop.cancelled() => {}
                () = session => {}
            }
            drop(keep);
        });
    }
    Ok(answer)
}
