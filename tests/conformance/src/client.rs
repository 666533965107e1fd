//! Requests as one of a case's users.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;

/// Most bytes of an answer.
const LIMIT: usize = 64 * 1024 * 1024;
/// Until an answer, or an event of a watch, must have come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// Who asks.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Admin,
    Anonymous,
    Token(String),
}

/// Connections of one case.
pub(crate) struct Client {
    cluster: Cluster,
    /// With the administrator's certificate, and without one.
    open: HashMap<bool, SendRequest<Full<Bytes>>>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub(crate) fn new(cluster: &Cluster) -> Client {
        Client { cluster: cluster.clone(), open: HashMap::new() }
    }

    /// Closes what is open; whoever sends again connects anew.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }

    /// The minor version that the server says it is.
    pub(crate) async fn version(&mut self) -> Result<u32> {
        let request = Request::get("/version").body(Bytes::new())?;
        let answer = self.send(&Who::Admin, request, DEADLINE).await?;
        let minor: String = answer.value()["minor"].as_str().unwrap_or_default().to_owned();
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        // A server that was built without a version counts as the newest.
        Ok(digits.parse().ok().filter(|minor| *minor > 0).unwrap_or(u32::MAX))
    }

    /// Sends, and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        who: &Who,
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<Answer> {
        let exchange = async {
            let (parts, body) = self.exchange(who, request).await?.into_parts();
            let body = Limited::new(body, LIMIT).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?.to_bytes();
            Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body })
        };
        let answer = tokio::time::timeout(within, exchange).await;
        if answer.is_err() {
            self.open.clear();
        }
        answer.with_context(|| format!("no whole answer within {} s", within.as_secs()))?
    }

    async fn exchange(&mut self, who: &Who, request: Request<Bytes>) -> Result<Response<Incoming>> {
        let certificate = *who == Who::Admin;
        let mut kept = self.open.remove(&certificate);
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => connect(&self.cluster, certificate).await?,
        };
        let answer = sender.send_request(self.dressed(who, request)?).await.context("sending the request")?;
        self.open.insert(certificate, sender);
        Ok(answer)
    }

    /// Sends on a connection of its own, and leaves the body to be read.
    pub(crate) async fn stream(&self, who: &Who, request: Request<Bytes>) -> Result<Response<Incoming>> {
        let exchange = async {
            let mut sender = connect(&self.cluster, *who == Who::Admin).await?;
            sender.send_request(self.dressed(who, request)?).await.context("sending the request")
        };
        tokio::time::timeout(DEADLINE, exchange).await.context("no answer in time")?
    }

    fn dressed(&self, who: &Who, request: Request<Bytes>) -> Result<Request<Full<Bytes>>> {
        let mut request = request.map(Full::new);
        request.headers_mut().insert("host", self.cluster.address.parse()?);
        let token = match who {
            Who::Admin => self.cluster.token.as_deref(),
            Who::Token(token) => Some(token.as_str()),
            Who::Anonymous => None,
        };
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        Ok(request)
    }
}

async fn connect(cluster: &Cluster, certificate: bool) -> Result<SendRequest<Full<Bytes>>> {
    let config = if certificate { &cluster.admin } else { &cluster.nobody };
    let stream = TcpStream::connect(&cluster.address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config.clone()).connect(cluster.host.clone(), stream).await;
    let stream = stream.context("TLS")?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

impl Answer {
    /// A header, several of a name with commas between them.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<String> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as JSON; as a text where it is none, and as hexadecimal digits where it is no text.
    pub(crate) fn value(&self) -> Value {
        let unpacked = match self.header("content-encoding").as_deref() {
            Some("gzip") => unpack(&self.body).ok(),
            _ => Some(self.body.to_vec()),
        };
        let Some(bytes) = unpacked else { return Value::String(hex(&self.body)) };
        let kind = self.header("content-type").unwrap_or_default();
        if kind.contains("protobuf") && !kind.contains("json") {
            return Value::String(hex(&bytes));
        }
        if let Ok(value) = serde_json::from_slice(&bytes) {
            return value;
        }
        let Ok(text) = String::from_utf8(bytes.clone()) else { return Value::String(hex(&bytes)) };
        if kind.contains("yaml")
            && let Ok(value) = apimachinery::yaml::parse(&text)
        {
            return value;
        }
        Value::String(text)
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(bytes).take(LIMIT as u64).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits; spaces and line ends between them do not count.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(2) {
        bail!("an odd number of hexadecimal digits");
    }
    let pairs = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair)?, 16).context("hexadecimal"));
    pairs.collect()
}
