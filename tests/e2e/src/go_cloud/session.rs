//! One connection of an edge, seen from the hub (docs/protocol/transport.md 2.1, 3.4, 3.5).

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

use super::pool::Pool;
use super::{Controller, PATIENCE, fits_the_catalogue};

/// Time after which the hub sends an unacknowledged message again.
const RESEND: Duration = Duration::from_secs(5);
/// Size of the buffer Go's writer flushes as one frame.
const BUFFER: usize = 4096;

/// What the edge said in its upgrade request.
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    pub path: String,
    pub node_id: String,
    pub project_id: String,
    pub connection_use: String,
    /// Subprotocols it offers.
    pub offered: Option<String>,
    pub origin: Option<String>,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
}

/// The cloud's end of a connection.
pub struct Session {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    pub upgrade: Upgrade,
    /// Everything received so far.
    pub received: Vec<Value>,
    /// Answers to requests; without one every request goes unanswered.
    pub controller: Option<Controller>,
    /// Messages in acknowledged mode.
    pool: Pool,
    /// Messages sent, for ids.
    sent: usize,
}

impl Session {
    #[allow(clippy::result_large_err)] // The WebSocket library dictates the type of the callback.
    pub(super) async fn upgrade(tls: TlsStream<TcpStream>) -> Result<Session> {
        let mut upgrade = Upgrade::default();
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        upgrade.certificate = chain.first().context("no client certificate")?.to_vec();
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            let header = |name: &str| {
                request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            upgrade.path = request.uri().path().to_owned();
            upgrade.node_id = header("node_id").unwrap_or_default();
            upgrade.project_id = header("project_id").unwrap_or_default();
            upgrade.connection_use = header("connectionuse").unwrap_or_default();
            upgrade.offered = header("sec-websocket-protocol");
            upgrade.origin = header("origin");
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(tls, look).await.context("upgrade")?;
        Ok(Session {
            socket,
            upgrade,
            received: Vec::new(),
            controller: None,
            pool: Pool::default(),
            sent: 0,
        })
    }

    /// Ends the connection as Go does: no close frame.
    pub fn cut(self) {
        drop(self.socket);
    }

    /// A recorded message under a fresh id.
    pub fn fresh(&mut self, file: &str) -> Result<Value> {
        self.sent += 1;
        crate::recorded::with_id(file, &format!("cloud-{}-{}", self.upgrade.certificate.len(), self.sent))
    }

    /// Writes a message as Go's writer does: a newline behind it, frames of 4 KiB.
    pub async fn send(&mut self, message: &Value) -> Result<usize> {
        let bytes = format!("{message}\n").into_bytes();
        let parts: Vec<&[u8]> = bytes.chunks(BUFFER).collect();
        for (at, part) in parts.iter().enumerate() {
            let data = if at == 0 { Data::Text } else { Data::Continue };
            let frame = RawFrame::message(part.to_vec(), OpCode::Data(data), at + 1 == parts.len());
            self.socket.feed(Frame::Frame(frame)).await?;
        }
        self.socket.flush().await?;
        Ok(parts.len())
    }

    /// The next message, checked against the catalogue and answered; `None` at the end of the connection.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        let Some(text) = self.next_text().await? else { return Ok(None) };
        let message = fits_the_catalogue(&text, &self.upgrade.node_id)?;
        self.received.push(message.clone());
        if let Some(parent) = message["header"]["parent_msg_id"].as_str() {
            self.pool.acknowledged(parent);
            return Ok(Some(message));
        }
        let answer = match &mut self.controller {
            Some(controller) => controller.answer(&message)?,
            None => None,
        };
        match answer {
            Some(answer) if answer.acknowledged => self.pool.hold(answer.message),
            Some(answer) => {
                self.send(&answer.message).await?;
            }
            None => {}
        }
        Ok(Some(message))
    }

    /// Reads the next text; sends meanwhile what waits for its turn.
    async fn next_text(&mut self) -> Result<Option<Utf8Bytes>> {
        loop {
            let due = self.pool.due();
            let frame = tokio::select! {
                frame = self.socket.next() => frame,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(message) = self.pool.take() {
                        self.send(&message).await?;
                    }
                    continue;
                }
            };
            match frame {
                Some(Ok(Frame::Text(text))) => return Ok(Some(text)),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return Ok(None),
                Some(Ok(other)) => bail!("a frame that is no text: {other:?}"),
            }
        }
    }

    /// True if every answer in acknowledged mode was sent and acknowledged.
    pub fn is_settled(&self) -> bool {
        self.pool.is_empty()
    }

    /// Reads and answers until a message is as wanted.
    pub async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let reading = async {
            loop {
                let message = self.next().await?.with_context(|| format!("{what}: the link ended"))?;
                if wanted(&message) {
                    return Ok(message);
                }
            }
        };
        timeout(PATIENCE, reading).await.with_context(|| format!("{what} does not come"))?
    }

    /// Reads and answers for a while; what came.
    pub async fn listen(&mut self, time: Duration) -> Result<Vec<Value>> {
        let (end, mut fresh) = (Instant::now() + time, Vec::new());
        while let Ok(next) = timeout_at(end, self.next()).await {
            fresh.push(next?.context("the link ended")?);
        }
        Ok(fresh)
    }

    /// Reads until the edge ends the connection.
    pub async fn ended(mut self) -> Result<()> {
        let reading = async {
            while self.next().await?.is_some() {}
            Ok(())
        };
        timeout(PATIENCE, reading).await.context("the edge stays connected")?
    }

    /// Sends a message in acknowledged mode and gives its acknowledgement, which must come before the hub would send
    /// again and have the form Go edges give it.
    pub async fn deliver(&mut self, message: &Value) -> Result<Value> {
        let id = &message["header"]["msg_id"];
        let acknowledged = async {
            while self.pool.is_under_way() {
                self.next().await?.context("the link ended")?;
            }
            self.send(message).await?;
            self.pool.sent(message);
            loop {
                let next = self.next().await?.context("the link ended")?;
                if next["header"]["parent_msg_id"] == *id {
                    return anyhow::Ok(next);
                }
            }
        };
        timeout(RESEND, acknowledged).await.with_context(|| format!("no answer to {id}"))?
    }

    /// Like [`Session::deliver`], where the answer must be an acknowledgement.
    pub async fn deliver_object(&mut self, message: &Value) -> Result<()> {
        let ack = self.deliver(message).await?;
        let mut route = message["route"].clone();
        route["operation"] = "response".into();
        ensure!(ack["route"] == route, "{} acknowledged by {ack}", message["route"]);
        ensure!(ack["content"] == "OK" && ack["header"]["resourceversion"].is_null(), "{ack}");
        ensure!(ack["header"]["msg_id"] != message["header"]["msg_id"], "{ack}");
        Ok(())
    }

    /// What the edge answers to a question of the transport itself.
    pub async fn control(&mut self, operation: &str) -> Result<Value> {
        let id = format!("control-{operation}");
        let message = json!({"header": {"msg_id": id, "timestamp": 1795222379100_i64},
            "route": {"source": "cloudhub", "group": "resource", "operation": operation, "resource": "x"},
            "content": null});
        self.deliver(&message).await
    }
}
