//! Port 10002: the CA, certificates for signing requests, and whether a node is known (docs/protocol/transport.md 4.3).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub node_name: String,
    pub authorization: String,
    pub body: usize,
}

/// Answers until the runtime ends.
pub(super) async fn serve(listener: TcpListener, authority: Arc<Authority>, asked: Arc<Mutex<Vec<Asked>>>) {
    let Ok(tls) = authority.registration_port().map(TlsAcceptor::from) else { return };
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, authority, asked) = (tls.clone(), authority.clone(), asked.clone());
        tokio::spawn(async move {
            // A peer that does not trust this server ends the handshake: nothing to do about it here.
            let Ok(stream) = tls.accept(tcp).await else { return };
            let service = service_fn(move |request| {
                let (authority, asked) = (authority.clone(), asked.clone());
                async move { Ok::<_, Infallible>(answer(request, &authority, &asked).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    authority: &Authority,
    asked: &Mutex<Vec<Asked>>,
) -> Response<Full<Bytes>> {
    let (status, body) = match route(request, authority, asked).await {
        Ok(answer) => answer,
        Err(error) => (500, format!("{error:#}").into_bytes()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}

async fn route(
    request: Request<Incoming>,
    authority: &Authority,
    asked: &Mutex<Vec<Asked>>,
) -> Result<(u16, Vec<u8>)> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (node_name, authorization) = (header("NodeName").to_owned(), header("Authorization").to_owned());
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.context("body")?.to_bytes();
    let record = Asked {
        method: method.clone(),
        path: path.clone(),
        node_name: node_name.clone(),
        authorization: authorization.clone(),
        body: body.len(),
    };
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    Ok(match (method.as_str(), path.as_str()) {
        ("GET", "/ca.crt") => (200, authority.certificate().to_vec()),
        ("GET", "/edge.crt") if authorization != format!("Bearer {}", authority.bearer()) => {
            (401, b"Invalid authorization token".to_vec())
        }
        ("GET", "/edge.crt") => (200, authority.sign(&body, &node_name)?),
        ("GET", path) if path.starts_with("/node/") => (404, b"Node not found".to_vec()),
        _ => (404, Vec::new()),
    })
}
