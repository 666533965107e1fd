//! The HTTPS port: CA certificate, certificates for edges, whether a node name is taken (docs/protocol/transport.md 4.3).
//!
//! A certificate is given for a valid join token, or to a node that presents the one it has. The request's subject
//! must be the node's own and ask for no other names (better than KubeEdge). `/ca-bundle.crt` is ours: every CA to
//! trust, PEM.

mod admission;
mod existing;
mod occupied;
mod uses;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::health::Unready;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::Handed;
use message::NodeName;
use pki::tls::ClientCertificate;
use pki::{DAY, NODES_GROUP, Profile, SigningRequest, Usage, edge_common_name};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::handshakes::{HandshakeSlots, Handshakes, Listened};
use super::material::{Material, Trust};
use super::{Registry, Signers};
use crate::kubernetes::{Cluster, Resource};
use crate::refused::{Holder, RefusedNodes};
use admission::{Admitted, admit, check_request};
pub use uses::forget_expired;

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("listening for registrations on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// Header by which a machine says that it takes the name of a connected node over.
const TAKE_OVER: &str = "Take-Over";
/// Connections served at once; the oldest gives way to a newcomer.
const CONNECTIONS: usize = 256;
/// Wait before a certificate is given that begins after those of the same name that are refused.
const SETTLE: Duration = Duration::from_secs(2);
/// Time for a handshake, and for a request and its answer.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Register {
    listener: TcpListener,
    tls: TlsAcceptor,
    handshakes: Arc<Handshakes>,
    office: Arc<RegistrationService>,
}

/// The rooms it asks and tells.
pub struct Deps {
    pub cluster: Cluster,
    /// Who is connected.
    pub registry: Registry,
    /// Who was put out.
    pub refused: RefusedNodes,
    /// Hears which CA signed.
    pub signers: Signers,
}

struct RegistrationService {
    trust: watch::Receiver<Arc<Trust>>,
    deps: Deps,
    terms: Terms,
}

/// Checked configuration of the certificates given.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Days a node's certificate is valid.
    pub lifetime_days: i64,
    /// Seconds after its end for which a certificate is still exchanged for a new one.
    pub renew_expired_for: i64,
    /// Off: any join token is good for the name of a node that exists, as in KubeEdge.
    pub join_existing: bool,
}

impl Terms {
    /// Seconds after which a certificate of today opens nothing any more.
    pub fn in_force(&self) -> i64 {
        self.lifetime_days * DAY + self.renew_expired_for.max(0) + 2 * pki::CLOCK_SKEW
    }
}

/// What is answered instead of what was asked.
struct RegisterRefusal(StatusCode, String);

impl Register {
    pub async fn build(
        listen: SocketAddr,
        material: &Material,
        handshakes: Arc<Handshakes>,
        deps: Deps,
        terms: Terms,
    ) -> Result<Register, RegisterError> {
        // Dates are looked at where a certificate is exchanged; nothing else here asks for one.
        let tls = material.server.config(ClientCertificate::OptionalEvenExpired, &["http/1.1"]);
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| RegisterError::Listen { address: listen, source })?;
        let office = Arc::new(RegistrationService { trust: material.trust.clone(), deps, terms });
        Ok(Register { listener, tls: TlsAcceptor::from(tls), handshakes, office })
    }

    /// Serves until stopped, at its port and those `handed` over; `unready` is ready once it does.
    pub async fn run(
        self,
        handed: Handed,
        unready: Unready,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        unready.ready();
        let places = HandshakeSlots::new(CONNECTIONS);
        loop {
            let (tcp, peer) = tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                accepted = listener::next(&self.listener, "the registration port") => accepted,
                accepted = listener::next(&handed, "the common port") => accepted,
            };
            let (tls, handshakes) = (self.tls.clone(), self.handshakes.clone());
            let (office, places) = (self.office.clone(), places.clone());
            tokio::spawn(async move {
                let handshake = |tcp| async move {
                    let accepted = tokio::time::timeout(DEADLINE, tls.accept(tcp)).await;
                    accepted.unwrap_or_else(|late| Err(late.into()))
                };
                // `None`: it said nothing, or gave way.
                let Some(stream) = handshakes.run(tcp, handshake).await else { return };
                let place = places.take();
                let served = tokio::select! {
                    biased;
                    _ = place.lost.cancelled() => Ok(()),
                    served = tokio::time::timeout(DEADLINE, serve(stream, office, peer)) => served,
                };
                if served.is_err() {
                    tracing::debug!(%peer, "registration connection took too long and was closed");
                }
            });
        }
    }
}

async fn serve(
    stream: std::io::Result<TlsStream<Listened<TcpStream>>>,
    office: Arc<RegistrationService>,
    peer: SocketAddr,
) {
    let stream = match stream {
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

impl RegistrationService {
    fn trust(&self) -> Arc<Trust> {
        self.trust.borrow().clone()
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        certificate: Option<&[u8]>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let result = match (request.method(), path.as_str()) {
            (&Method::GET, "/ca.crt") => Ok(self.trust().authority.certificate().to_vec()),
            (&Method::GET, "/ca-bundle.crt") => Ok(self.trust().bundle.to_pem().into_bytes()),
            (&Method::GET | &Method::POST, "/edge.crt") => self.sign(request, certificate, peer).await,
            (&Method::GET, path) if path.starts_with("/node/") => {
                self.find_node(&path["/node/".len()..]).await
            }
            _ => Err(RegisterRefusal(StatusCode::NOT_FOUND, "no such path".to_owned())),
        };
        match result {
            Ok(body) => Response::new(Full::new(Bytes::from(body))),
            Err(RegisterRefusal(status, text)) => {
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
    ) -> Result<Vec<u8>, RegisterRefusal> {
        let bad = |text: String| RegisterRefusal(StatusCode::BAD_REQUEST, text);
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let node =
            NodeName::new(&header("NodeName")).map_err(|error| bad(format!("header NodeName: {error}")))?;
        let (trust, now) = (self.trust(), daemon::clock::unix_seconds());
        let bearer = header("Authorization");
        let allowed = self.terms.renew_expired_for;
        let take_over = header(TAKE_OVER) == "true";
        let admitted = admit(&node, certificate, &bearer, &trust.authority, allowed, now)?;
        let allowed = match certificate {
            Some(certificate) => self.deps.refused.check(&node, &Holder::of(certificate, &node)),
            None => self.deps.refused.check_join(&node),
        };
        allowed.map_err(|text| RegisterRefusal(StatusCode::FORBIDDEN, text))?;
        let body = Limited::new(request.into_body(), SigningRequest::MAX_BYTES).collect().await;
        let body = body.map_err(|error| {
            RegisterRefusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("reading the request (limit {}): {error}", SigningRequest::MAX_BYTES),
            )
        })?;
        let body = body.to_bytes();
        let csr = SigningRequest::from_der(&body).map_err(|error| bad(error.to_string()))?;
        check_request(&node, &csr)?;
        if let Admitted::Token(claims) = &admitted {
            let peer = peer.ip().to_string();
            existing::check(&self.deps.cluster, &node, claims.existing || self.terms.join_existing).await?;
            occupied::check(&self.deps.cluster, &self.deps.registry, &node, &peer, take_over).await?;
            if let Some(id) = &claims.jti {
                uses::record(&self.deps.cluster, id, claims.exp, &node, &body).await?;
            }
        }
        let profile = Profile {
            common_name: edge_common_name(node.as_str()),
            organizations: vec![NODES_GROUP.to_owned()],
            names: Vec::new(),
            usage: Usage::Client,
            lifetime: self.terms.lifetime_days * DAY,
        };
        let earliest = self.deps.refused.begins_after(&node);
        if earliest.is_some_and(|earliest| earliest > now) {
            // It was put out in this very second: its certificate would be one that is not in force yet.
            tokio::time::sleep(SETTLE).await;
        }
        let signed = trust.authority.sign_request(&csr, &profile, now, earliest);
        let signed =
            signed.map_err(|error| RegisterRefusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let serial = pki::Subject::of(&signed).map(|subject| subject.serial).unwrap_or_default();
        let renewed = admitted == Admitted::Certificate;
        tracing::info!(%node, %peer, renewed, serial, "certificate signed");
        self.deps.signers.note(&node, trust.authority.fingerprint());
        Ok(signed.to_vec())
    }

    async fn find_node(&self, name: &str) -> Result<Vec<u8>, RegisterRefusal> {
        let bad = |error: message::KeyError| RegisterRefusal(StatusCode::BAD_REQUEST, error.to_string());
        let node = NodeName::new(name).map_err(bad)?;
        match self.deps.cluster.get(&Resource::Nodes.path(None, node.as_str())).await {
            Ok(_) => Ok(b"Node found".to_vec()),
            Err(status) if status.is_not_found() => {
                Err(RegisterRefusal(StatusCode::NOT_FOUND, "Node not found".to_owned()))
            }
            Err(status) => Err(RegisterRefusal(StatusCode::INTERNAL_SERVER_ERROR, status.message)),
        }
    }
}
