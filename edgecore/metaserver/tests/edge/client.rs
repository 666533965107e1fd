//! A client of MetaServer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pki::Identity;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::node::Node;

/// How a client shows who it is.
pub(crate) enum Who<'a> {
    Nobody,
    Token(&'a str),
    Certificate(&'a Identity),
}

/// An answer: code, warnings, body.
#[derive(Debug)]
pub(crate) struct Told {
    pub code: u16,
    pub warnings: Vec<String>,
    pub body: Value,
}

impl Told {
    pub(crate) fn names(&self) -> Vec<&str> {
        assert_eq!(self.code, 200, "{}", self.body);
        let items = self.body["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
    }

    pub(crate) fn revision(&self) -> i64 {
        self.body["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Node {
    pub(crate) async fn send(&self, who: &Who<'_>, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
        let identity = if let Who::Certificate(identity) = who { Some(*identity) } else { None };
        let connector = TlsConnector::from(pki::tls::client(self.ca(), identity).unwrap());
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        if let Who::Token(token) = who {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn call(&self, who: &Who<'_>, method: &str, path: &str, body: &str) -> Told {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let answer = self.send(who, request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
        let code = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect();
        let text = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap();
        let body = serde_json::from_slice(&text.to_bytes()).unwrap_or_default();
        Told { code, warnings, body }
    }

    /// Over the door without TLS, with these headers: the code, and the body.
    pub(crate) async fn plain(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let stream = TcpStream::connect(self.plain_address()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&text).unwrap_or_default())
    }

    /// A write, with the media type of its body.
    pub(crate) async fn write(
        &self,
        who: &Who<'_>,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Told {
        let request = Request::builder().method(method).uri(path).header("content-type", media);
        let answer = self.send(who, request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await;
        let code = answer.status().as_u16();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        Told { code, warnings, body: serde_json::from_slice(&text).unwrap_or_default() }
    }

    /// The body of an answer, to the byte.
    pub(crate) async fn raw(&self, who: &Who<'_>, path: &str) -> Bytes {
        let answer = self.send(who, Request::get(path).body(Full::default()).unwrap()).await;
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    pub(crate) async fn get(&self, who: &Who<'_>, path: &str) -> Told {
        self.call(who, "GET", path, "").await
    }

    pub(crate) async fn watch(&self, who: &Who<'_>, path: &str) -> Lines {
        self.watch_with("test", who, path).await
    }

    /// What a component sees, by its name in the user agent; to the byte.
    pub(crate) async fn raw_with(&self, agent: &str, who: &Who<'_>, path: &str) -> Bytes {
        let request = Request::get(path).header("user-agent", format!("{agent}/v1.36.0"));
        let answer = self.send(who, request.body(Full::default()).unwrap()).await;
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    pub(crate) async fn get_with(&self, agent: &str, who: &Who<'_>, path: &str) -> Value {
        serde_json::from_slice(&self.raw_with(agent, who, path).await).unwrap()
    }

    pub(crate) async fn watch_with(&self, agent: &str, who: &Who<'_>, path: &str) -> Lines {
        let request = Request::get(path).header("user-agent", format!("{agent}/v1.36.0"));
        let answer = self.send(who, request.body(Full::default()).unwrap()).await;
        let code = answer.status();
        let mut lines = Lines { body: answer.into_body(), buffer: Vec::new() };
        if code != 200 {
            panic!("{code}: {:?}", lines.next().await);
        }
        lines
    }
}

/// The events of a watch.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(answer: Response<Incoming>) -> Lines {
        Lines { body: answer.into_body(), buffer: Vec::new() }
    }

    /// The next event; `None` at the end of the watch.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].take()));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time");
            let Some(Ok(frame)) = frame else { return None };
            self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    /// `ADDED a`, `ERROR 410`, or empty at the end.
    pub(crate) async fn brief(&mut self) -> String {
        match self.next().await {
            Some((kind, object)) if kind == "ERROR" => format!("ERROR {}", object["code"]),
            Some((kind, object)) => {
                format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default())
            }
            None => String::new(),
        }
    }
}
