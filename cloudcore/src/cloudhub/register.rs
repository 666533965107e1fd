//! The HTTPS port: CA certificate, certificates for edges, whether a node name is taken (spec/transport.md 4.3).
//!
//! A certificate is given for a valid join token, or to a node that presents the one it has. The request's subject
//! must be the node's own and ask for no other names (better than KubeEdge).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use message::NodeName;
use pki::tls::{ClientCertificate, TlsError};
use pki::{DAY, EdgeSubject, NODES_GROUP, Profile, SigningRequest, Usage, edge_common_name};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::material::Material;
use crate::kubernetes::{Cluster, Resource};

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("listening for registrations on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("TLS of the registration port")]
    Tls(#[source] TlsError),
}

/// Connections served at once; the rest wait in the kernel's queue.
const CONNECTIONS: usize = 128;
/// Time for one whole connection: handshake, request, answer.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Register {
    listener: TcpListener,
    tls: TlsAcceptor,
    office: Arc<Office>,
}

struct Office {
    material: Arc<Material>,
    cluster: Cluster,
    /// Days.
    lifetime: i64,
}

/// What is answered instead of what was asked.
struct Refusal(StatusCode, String);

impl Register {
    pub async fn build(
        listen: SocketAddr,
        material: Arc<Material>,
        cluster: Cluster,
        lifetime_days: i64,
    ) -> Result<Register, RegisterError> {
        let ca = material.authority.certificate();
        let tls = pki::tls::server(&material.server, ca, ClientCertificate::Optional, &["http/1.1"])
            .map_err(RegisterError::Tls)?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| RegisterError::Listen { address: listen, source })?;
        let office = Arc::new(Office { material, cluster, lifetime: lifetime_days });
        Ok(Register { listener, tls: TlsAcceptor::from(tls), office })
    }

    pub async fn run(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let (tls, office) = (self.tls.clone(), self.office.clone());
                    tokio::spawn(async move {
                        if tokio::time::timeout(DEADLINE, serve(tls, office, tcp, peer)).await.is_err() {
                            tracing::warn!(%peer, "registration connection took too long and was closed");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept a registration connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(tls: TlsAcceptor, office: Arc<Office>, tcp: TcpStream, peer: SocketAddr) {
    let stream = match tls.accept(tcp).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%peer, error = %error, "registration handshake failed");
            return;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.map(|certificate| certificate.clone().into_owned());
    let service = service_fn(|request| {
        let (office, certificate) = (office.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(office.answer(request, certificate.as_deref(), peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // The peer went away: nobody is left to tell.
    let _ = connection.await;
}

impl Office {
    async fn answer(
        &self,
        request: Request<Incoming>,
        certificate: Option<&[u8]>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let result = match (request.method(), path.as_str()) {
            (&Method::GET, "/ca.crt") => Ok(self.material.authority.certificate().to_vec()),
            (&Method::GET | &Method::POST, "/edge.crt") => self.sign(request, certificate, peer).await,
            (&Method::GET, path) if path.starts_with("/node/") => {
                self.find_node(&path["/node/".len()..]).await
            }
            _ => Err(Refusal(StatusCode::NOT_FOUND, "no such path".to_owned())),
        };
        match result {
            Ok(body) => Response::new(Full::new(Bytes::from(body))),
            Err(Refusal(status, text)) => {
                if status != StatusCode::NOT_FOUND {
                    tracing::warn!(%peer, path, status = status.as_u16(), error = text, "registration refused");
                }
                let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
                *response.status_mut() = status;
                response
            }
        }
    }

    async fn sign(
        &self,
        request: Request<Incoming>,
        certificate: Option<&[u8]>,
        peer: SocketAddr,
    ) -> Result<Vec<u8>, Refusal> {
        let unauthorized = |text: String| Refusal(StatusCode::UNAUTHORIZED, text);
        let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let node =
            NodeName::new(&header("NodeName")).map_err(|error| bad(format!("header NodeName: {error}")))?;
        match certificate {
            Some(certificate) => {
                let subject =
                    EdgeSubject::of(certificate).map_err(|error| unauthorized(error.to_string()))?;
                if subject.node != node.as_str() {
                    let text = format!(
                        "certificate of node {} may not be exchanged for one of {node}",
                        subject.node
                    );
                    return Err(unauthorized(text));
                }
            }
            None => {
                let bearer = header("Authorization");
                let jwt = bearer.strip_prefix("Bearer ").ok_or_else(|| {
                    unauthorized("a join token is needed: Authorization: Bearer <token>".to_owned())
                })?;
                let now = daemon::clock::unix_seconds();
                pki::token::verify(&self.material.authority, jwt, now)
                    .map_err(|error| unauthorized(error.to_string()))?;
            }
        }
        let body = Limited::new(request.into_body(), SigningRequest::MAX_BYTES).collect().await;
        let body = body.map_err(|error| {
            Refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("reading the request (limit {}): {error}", SigningRequest::MAX_BYTES),
            )
        })?;
        let csr = SigningRequest::from_der(&body.to_bytes()).map_err(|error| bad(error.to_string()))?;
        let wanted = edge_common_name(node.as_str());
        if csr.common_name().as_deref() != Some(wanted.as_str())
            || csr.organization().as_deref() != Some(NODES_GROUP)
        {
            let named = csr.common_name().unwrap_or_default();
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                format!(
                    "the request is for {named:?}, only {wanted:?} in {NODES_GROUP} is signed for node {node}"
                ),
            ));
        }
        if csr.asks_for_names() {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "an edge certificate has no alternative names".to_owned(),
            ));
        }
        let profile = Profile {
            common_name: wanted,
            organizations: vec![NODES_GROUP.to_owned()],
            names: Vec::new(),
            usage: Usage::Client,
            lifetime: self.lifetime * DAY,
        };
        let now = daemon::clock::unix_seconds();
        let signed = self.material.authority.sign_request(&csr, &profile, now);
        let signed = signed.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        tracing::info!(%node, %peer, renewed = certificate.is_some(), "certificate signed");
        Ok(signed.to_vec())
    }

    async fn find_node(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let bad = |error: message::KeyError| Refusal(StatusCode::BAD_REQUEST, error.to_string());
        let node = NodeName::new(name).map_err(bad)?;
        match self.cluster.get(&Resource::Nodes.path(None, node.as_str())).await {
            Ok(_) => Ok(b"Node found".to_vec()),
            Err(status) if status.is_not_found() => {
                Err(Refusal(StatusCode::NOT_FOUND, "Node not found".to_owned()))
            }
            Err(status) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, status.message)),
        }
    }
}
