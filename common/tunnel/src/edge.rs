//! The edge's end: connections to the Node API.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::lanes::{Lane, Lanes};
use crate::{Connect, Frame, Kind};

/// How long the Node API may take for the head of an answer.
const ANSWER: Duration = Duration::from_secs(90);

/// Ends the tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelEnd {
    #[error("the cloud ended the tunnel: {0}")]
    Told(String),
}

/// The edge's connections.
#[derive(Default)]
pub struct EdgeEnd(Lanes);

impl EdgeEnd {
    /// Connections that are open.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// Takes in a message; a new connection is made by `connect`. The result is a message to answer with.
    ///
    /// # Errors
    /// [`TunnelEnd`]: the cloud ends the tunnel.
    pub fn take_in<C, S, F>(&mut self, frame: Frame, connect: C) -> Result<Option<Frame>, TunnelEnd>
    where
        C: FnOnce() -> F,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let id = frame.connection;
        match frame.kind {
            Kind::Data => return Ok(self.0.data(id, frame.data)),
            Kind::Remove => self.0.finish(id),
            Kind::Close => return Err(TunnelEnd::Told(String::from_utf8_lossy(&frame.data).into_owned())),
            kind @ (Kind::Logs | Kind::Metrics | Kind::Exec | Kind::Attach) => {
                let asked: Connect = match serde_json::from_slice(&frame.data) {
                    Ok(asked) if !self.0.is_full() && !self.0.has(id) => asked,
                    _ => return Ok(Some(Frame::new(id, Kind::Remove, Bytes::new()))),
                };
                let connection = connect();
                self.0.begin(id, move |lane| serve(lane, kind, asked, connection));
            }
        }
        Ok(None)
    }

    /// The next message of the connections; waits for ever while they say nothing. Cancel safe.
    pub async fn next(&mut self) -> Frame {
        self.0.next().await
    }
}

async fn serve<S>(mut lane: Lane, kind: Kind, asked: Connect, connect: impl Future<Output = io::Result<S>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = match connect.await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = lane.say(Kind::Data, format!("connecting to the node's API: {error}\n")).await;
            return;
        }
    };
    match kind {
        Kind::Exec | Kind::Attach => {
            // What is answered, also the head of the upgrade, goes back byte by byte.
            let sent = match head(&asked) {
                Ok(head) => stream.write_all(&head).await,
                Err(error) => Err(io::Error::other(error)),
            };
            match sent {
                Ok(()) => lane.carry(stream).await,
                Err(error) => {
                    let _ = lane.say(Kind::Data, refusal(&error.to_string())).await;
                }
            }
        }
        _ => {
            if let Err(error) = tell(&mut lane, &asked, stream).await {
                let _ = lane.say(Kind::Data, format!("{error}\n")).await;
            }
        }
    }
}

/// Sends the body of the answer, whatever its status: the protocol has no place for it.
async fn tell<S>(
    lane: &mut Lane,
    asked: &Connect,
    stream: S,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = asked.target().parse()?;
    *request.headers_mut() = httpproxy::onward(&asked.headers(), HeaderValue::from_static("node"));
    let mut body = httpproxy::ask(stream, request, ANSWER).await?.into_body();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            heard = lane.heard() => match heard {
                // Nothing is asked for in a text.
                Some(_) => continue,
                None => return Ok(()),
            },
        };
        let Some(frame) = frame else { return Ok(()) };
        if let Ok(data) = frame?.into_data()
            && lane.say(Kind::Data, data).await.is_err()
        {
            return Ok(());
        }
    }
}

/// The head of a request as it was asked for, on a connection of its own.
fn head(asked: &Connect) -> Result<Vec<u8>, http::Error> {
    // Whatever came is a request target and headers, and no more than that.
    let target: Uri = asked.target().parse()?;
    let method = Method::from_bytes(asked.method.as_bytes())?;
    let mut headers: HeaderMap = asked.headers();
    headers.insert(HOST, HeaderValue::from_static("node"));
    let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

fn refusal(why: &str) -> String {
    format!("HTTP/1.1 502 Bad Gateway\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}", why.len())
}
