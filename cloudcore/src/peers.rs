//! Other CloudCores: a stream to a node that is connected to another replica goes through that one.
//!
//! ```text
//! this replica --lease "causeway-streams-ID": my address--> API server <--leases-- who looks for a node
//! nodestreams: not here --mutual TLS, the tunnel port--> each peer: is it there? --> its session
//! ```
//!
//! Promises: a replica asks others and serves others only with a certificate of the edges' CA that no node can get; one that asks
//! for another is not passed on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::kinds::lines;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use message::{Json, NodeName, Status};
use pki::tls::{LiveClient, TlsError};
use pki::{AuthorityError, DAY, Profile, Subject, Usage};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::cloudhub::material::{NAMESPACE, Trust};
use crate::kubernetes::Cluster;

/// Who replicas are to each other. A node's certificate is called otherwise, whatever it asks for.
const COMMON_NAME: &str = "causeway:cloudcore";
/// Where a replica asks for a node.
const PATH: &str = "/v1/causeway/nodes/";
const PROTOCOL: HeaderValue = HeaderValue::from_static("causeway-stream");
const LABEL: &str = "causeway.io/streams";
/// How often a replica says that it is there, and when one that did not is forgotten.
const RENEW: Duration = Duration::from_secs(20);
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(10);
/// How long the list of replicas counts.
const KNOWN: Duration = Duration::from_secs(5);
/// Replicas that are asked.
const PEERS: usize = 16;
/// How long one may take to answer.
const ANSWERS: Duration = Duration::from_secs(5);
/// Days the certificate is valid; a new one is made at each start and for each CA.
const DAYS: i64 = 365;

#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    #[error("signing the certificate by which replicas know each other")]
    Sign(#[source] AuthorityError),
    #[error("using it")]
    Use(#[source] TlsError),
    #[error("{0:?} is not a name")]
    Name(String),
}

/// The replicas.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    cluster: Cluster,
    id: String,
    /// Where others reach this one.
    address: SocketAddr,
    client: LiveClient,
    /// A name of the hub's certificate.
    name: ServerName<'static>,
    known: Mutex<Option<(Vec<String>, Instant)>>,
}

/// True for a certificate (DER, verified) of another replica.
pub fn is_peer(certificate: &[u8]) -> bool {
    Subject::of(certificate).is_ok_and(|subject| subject.common_name == COMMON_NAME)
}

/// The node a request of a peer asks for.
pub fn asked(uri: &Uri, headers: &HeaderMap) -> Option<NodeName> {
    let name = uri.path().strip_prefix(PATH)?;
    (headers.get(UPGRADE) == Some(&PROTOCOL)).then(|| NodeName::new(name).ok()).flatten()
}

/// Headers of the answer to such a request.
pub fn accepted() -> HeaderMap {
    HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("Upgrade")), (UPGRADE, PROTOCOL)])
}

impl Peers {
    /// `name` is one that the hub's certificate has.
    pub fn new(
        cluster: Cluster,
        address: SocketAddr,
        name: &str,
        trust: &Trust,
    ) -> Result<Peers, PeersError> {
        let client = client(trust)?;
        let name = ServerName::try_from(name.to_owned()).map_err(|_| PeersError::Name(name.to_owned()))?;
        let id = uuid::Uuid::new_v4().to_string();
        Ok(Peers(Arc::new(Inner { cluster, id, address, client, name, known: Mutex::default() })))
    }

    /// Says that this replica is there, until `stop`, and follows the CAs.
    pub async fn run(self, mut trust: watch::Receiver<Arc<Trust>>, stop: CancellationToken) {
        let path = lines::Lease.path(Some(NAMESPACE), &format!("causeway-streams-{}", self.0.id));
        loop {
            if let Err(status) = self.say(&path).await {
                tracing::debug!(error = %status, "not told to other replicas that this one is there");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = trust.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = trust.borrow_and_update().clone();
                    if let Err(error) = self.follow(&now) {
                        tracing::warn!(error = %error, "other replicas are asked with the former certificate");
                    }
                }
                () = tokio::time::sleep(RENEW) => {}
            }
        }
        // Others forget it in any case.
        let _ = self.0.cluster.delete(&path, &Json::null()).await;
    }

    fn follow(&self, trust: &Trust) -> Result<(), PeersError> {
        let identity = identity(trust)?;
        self.0.client.change(&trust.bundle, Some(&identity)).map_err(PeersError::Use)
    }

    async fn say(&self, path: &str) -> Result<(), Status> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": format!("causeway-streams-{}", self.0.id), "namespace": NAMESPACE, "labels": {LABEL: "true"}},
            "spec": {
                "holderIdentity": self.0.address.to_string(),
                "leaseDurationSeconds": 3 * RENEW.as_secs(),
                "renewTime": daemon::clock::rfc3339_micro(daemon::clock::now()),
            },
        });
        let lease = Json::of(&lease);
        match self.0.cluster.replace(path, &lease).await {
            Err(status) if status.is_not_found() => {
                self.0.cluster.create(&lines::Lease.path(Some(NAMESPACE), ""), &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// A stream to a node that another replica holds.
    ///
    /// # Errors
    /// No replica has it, or none could be asked; the text is for who asked.
    pub async fn open(&self, node: &NodeName) -> Result<TokioIo<Upgraded>, String> {
        let known = self.known().await.map_err(|status| format!("asking for other CloudCores: {status}"))?;
        let mut asked: FuturesUnordered<_> = known.iter().map(|peer| self.ask(peer, node)).collect();
        let mut why = "it is not connected to this CloudCore, nor to another".to_owned();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(stream) => return Ok(stream),
                Err(None) => {}
                Err(Some(trouble)) => why = format!("it is not connected to this CloudCore, and {trouble}"),
            }
        }
        Err(why)
    }

    async fn known(&self) -> Result<Vec<String>, Status> {
        let fresh = |known: &Option<(Vec<String>, Instant)>| {
            known.as_ref().filter(|(_, since)| since.elapsed() < KNOWN).map(|(peers, _)| peers.clone())
        };
        if let Some(peers) = fresh(&self.0.known.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(peers);
        }
        let path = format!(
            "{}?labelSelector={}%3Dtrue",
            lines::Lease.path(Some(NAMESPACE), ""),
            LABEL.replace('/', "%2F")
        );
        let leases = self.0.cluster.get(&path).await?;
        let leases: Value = leases.parse().map_err(|error| Status::internal(error.to_string()))?;
        let peers = others(&leases, &self.0.address.to_string(), daemon::clock::now());
        *self.0.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((peers.clone(), Instant::now()));
        Ok(peers)
    }

    /// `Err(None)`: the node is not there.
    async fn ask(&self, peer: &str, node: &NodeName) -> Result<TokioIo<Upgraded>, Option<String>> {
        let trouble =
            |error: &dyn std::fmt::Display| Some(format!("CloudCore {peer} does not answer: {error}"));
        let ask = async {
            let tcp = TcpStream::connect(peer).await.map_err(|error| trouble(&error))?;
            let tls = TlsConnector::from(self.0.client.config()).connect(self.0.name.clone(), tcp).await;
            let tls = tls.map_err(|error| trouble(&error))?;
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.uri_mut() = format!("{PATH}{node}").parse().map_err(|error| trouble(&error))?;
            *request.headers_mut() = accepted();
            request.headers_mut().insert(HOST, HeaderValue::from_static("cloudcore"));
            let mut answer = httpproxy::ask(tls, request, ANSWERS).await.map_err(|error| trouble(&error))?;
            match answer.status() {
                StatusCode::SWITCHING_PROTOCOLS => {}
                StatusCode::NOT_FOUND => return Err(None),
                status => return Err(trouble(&status)),
            }
            let stream = hyper::upgrade::on(&mut answer).await.map_err(|error| trouble(&error))?;
            Ok(TokioIo::new(stream))
        };
        match tokio::time::timeout(ANSWERS, ask).await {
            Ok(answer) => answer,
            Err(late) => Err(trouble(&late)),
        }
    }
}

fn client(trust: &Trust) -> Result<LiveClient, PeersError> {
    LiveClient::new(&trust.bundle, Some(&identity(trust)?)).map_err(PeersError::Use)
}

fn identity(trust: &Trust) -> Result<pki::Identity, PeersError> {
    let profile = Profile {
        common_name: COMMON_NAME.to_owned(),
        organizations: Vec::new(),
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: DAYS * DAY,
    };
    let identity =
        trust.authority.issue(&profile, daemon::clock::unix_seconds()).map_err(PeersError::Sign)?;
    Ok(identity.with_intermediates(trust.intermediates.clone()))
}

/// Addresses of the replicas in this list but `own`, of those that were there lately.
fn others(leases: &Value, own: &str, now: jiff::Timestamp) -> Vec<String> {
    let leases = leases["items"].as_array().into_iter().flatten();
    let addresses = leases.filter_map(|lease| {
        let renewed: jiff::Timestamp = lease["spec"]["renewTime"].as_str()?.parse().ok()?;
        let address = lease["spec"]["holderIdentity"].as_str()?;
        let is_there = now.duration_since(renewed) < FORGOTTEN && address.parse::<SocketAddr>().is_ok();
        (is_there && address != own).then(|| address.to_owned())
    });
    addresses.take(PEERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_those_that_were_there_lately() {
        let now: jiff::Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        let lease =
            |address: &str, time: &str| json!({"spec": {"holderIdentity": address, "renewTime": time}});
        let leases = json!({"items": [
            lease("10.0.0.1:10004", "2026-11-30T09:59:50.000000Z"),
            lease("10.0.0.2:10004", "2026-11-30T09:59:50.000000Z"),
            lease("[fd00::3]:10004", "2026-11-30T10:00:05.000000Z"),
            lease("10.0.0.4:10004", "2026-11-30T09:40:00.000000Z"),
            lease("http://10.0.0.5", "2026-11-30T09:59:50.000000Z"),
            {}
        ]});
        assert_eq!(others(&leases, "10.0.0.1:10004", now), ["10.0.0.2:10004", "[fd00::3]:10004"]);
    }

    #[test]
    fn a_peer_asks_for_a_node_by_its_protocol() {
        let uri = |path: &str| path.parse::<Uri>().unwrap();
        let node = asked(&uri("/v1/causeway/nodes/edge-1"), &accepted()).unwrap();
        assert_eq!(node.as_str(), "edge-1");
        assert!(asked(&uri("/v1/causeway/nodes/edge-1"), &HeaderMap::new()).is_none());
        assert!(asked(&uri("/v1/causeway/nodes/a/b"), &accepted()).is_none());
        assert!(asked(&uri("/v1/kubeedge/connect"), &accepted()).is_none());
    }
}
