//! The cloud's end: pipes that speak HTTP/1.1 as a node's Node API does, each a connection of the tunnel.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::lanes::{Lane, Lanes};
use crate::{CHUNK, Connect, Frame, Kind};

/// The largest head of a request.
const HEAD: usize = 64 * 1024;
const HEADERS: usize = 64;
/// Who opened a pipe asks at once.
const ASKS: Duration = Duration::from_secs(30);

/// Head of every answer but that of an upgrade: the protocol has no place for a status, and the end of the connection is
/// that of the body.
const ANSWER: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n";

/// The cloud's connections.
#[derive(Default)]
pub struct CloudEnd {
    lanes: Lanes,
    last: u64,
}

impl CloudEnd {
    /// Connections that are open.
    pub fn count(&self) -> usize {
        self.lanes.count()
    }

    /// A pipe to the node's Node API, for one request. `None` if there are too many.
    pub fn open(&mut self) -> Option<DuplexStream> {
        if self.lanes.is_full() {
            return None;
        }
        self.last += 1;
        let (near, far) = tokio::io::duplex(CHUNK);
        self.lanes.begin(self.last, move |lane| serve(lane, far));
        Some(near)
    }

    /// Takes in a message. The result is a message to answer with. What only the cloud may send is dropped.
    pub fn take_in(&mut self, frame: Frame) -> Option<Frame> {
        match frame.kind {
            Kind::Data => return self.lanes.data(frame.connection, frame.data),
            Kind::Remove => self.lanes.finish(frame.connection),
            _ => {
                tracing::debug!(kind = ?frame.kind, "a message of the tunnel that no edge sends was dropped")
            }
        }
        None
    }

    /// The next message of the connections; waits for ever while they say nothing. Cancel safe.
    pub async fn next(&mut self) -> Frame {
        self.lanes.next().await
    }
}

async fn serve(mut lane: Lane, mut pipe: DuplexStream) {
    let mut asked = match tokio::time::timeout(ASKS, request(&mut pipe)).await {
        Ok(Some(asked)) => asked,
        Ok(None) => return refuse(&mut pipe, 400, "Bad Request", "not a request").await,
        Err(_) => return,
    };
    let Some(kind) = kind(&asked) else {
        return refuse(
            &mut pipe,
            501,
            "Not Implemented",
            "KubeEdge's tunnel carries logs, exec, attach, metrics and requests to ports",
        )
        .await;
    };
    let is_whole = matches!(kind, Kind::Exec | Kind::Attach);
    if !is_whole {
        // Go edges send a body on as they get it, without its headers.
        asked.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let method = is_whole.then_some(&asked.method);
    let connect = Connect::new(lane.id, &asked.target, &asked.headers, method);
    let Ok(connect) = serde_json::to_vec(&connect) else { return };
    if lane.say(kind, connect).await.is_err() {
        return;
    }
    if is_whole {
        if !asked.rest.is_empty() && lane.say(Kind::Data, asked.rest).await.is_err() {
            return;
        }
        return lane.carry(pipe).await;
    }
    if pipe.write_all(ANSWER.as_bytes()).await.is_err() {
        return;
    }
    let (mut from, mut to) = tokio::io::split(pipe);
    let (mut end, heard) = ([0; 64], async {
        while let Some(data) = lane.heard().await {
            if to.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    tokio::select! {
        () = heard => {}
        // Who asked has gone, or says more than is asked.
        _ = from.read(&mut end) => {}
    }
}

struct Asked {
    method: Method,
    target: String,
    headers: HeaderMap,
    /// What came behind the head.
    rest: Bytes,
}

/// Reads the head of a request. `None`: it is none.
async fn request(pipe: &mut DuplexStream) -> Option<Asked> {
    let mut read = BytesMut::new();
    loop {
        if pipe.read_buf(&mut read).await.ok()? == 0 || read.len() > HEAD {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = parsed.parse(&read).ok()? else { continue };
        let method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
        let target = parsed.path?.to_owned();
        let mut headers = HeaderMap::new();
        for header in parsed.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
        }
        return Some(Asked { method, target, headers, rest: read.split_off(length).freeze() });
    }
}

/// How the tunnel carries a request.
fn kind(asked: &Asked) -> Option<Kind> {
    let path = asked.target.split('?').next().unwrap_or_default();
    let is_upgrade = httpproxy::wants_upgrade(&asked.headers);
    match path.split('/').nth(1)? {
        "exec" if is_upgrade => Some(Kind::Exec),
        "attach" if is_upgrade => Some(Kind::Attach),
        // Ours: a connection to the Node API as for a command, so that the whole request and the whole answer are carried, status
        // and headers among them. Go edges answer 404.
        "podTcp" | "nodeTcp" if is_upgrade => Some(Kind::Exec),
        "ports" | "podPorts" => Some(Kind::Exec),
        "containerLogs" if asked.method == Method::GET => Some(Kind::Logs),
        _ if asked.method == Method::GET && !is_upgrade => Some(Kind::Metrics),
        _ => None,
    }
}

async fn refuse(pipe: &mut DuplexStream, status: u16, reason: &str, why: &str) {
    let length = why.len();
    let answer =
        format!("HTTP/1.1 {status} {reason}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{why}");
    // Who asked may be gone.
    let _ = pipe.write_all(answer.as_bytes()).await;
    let _ = pipe.shutdown().await;
}
