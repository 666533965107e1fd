//! Requests that need no socket.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Builder;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kubeapi::request::Incoming;
use kubeapi::respond::Answer;
use kubeapi::{Api, Certificate, Peer, Settings};
use serde_json::Value;

use crate::double::Double;

pub(crate) fn api(settings: Settings) -> Api<Double> {
    Api::new(Arc::new(Double::new()), settings)
}

pub(crate) fn request(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path).header("x-user", "ann")
}

/// Answers as through a door.
pub(crate) async fn send(api: &Api<Double>, request: Builder, body: &str) -> Answer {
    let address = Some([192, 0, 2, 7].into());
    let peer = Peer { door: Some("the test"), address, certificate: Certificate::Missing };
    api.respond(&peer, request.body(Incoming::Program(Bytes::from(body.to_owned()))).unwrap()).await
}

pub(crate) async fn get(api: &Api<Double>, path: &str) -> Answer {
    send(api, request(Method::GET, path), "").await
}

pub(crate) async fn text(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(crate) async fn json(answer: Answer) -> Value {
    serde_json::from_str(&text(answer).await).unwrap()
}
