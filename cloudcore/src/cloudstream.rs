//! The stream server: what API servers and metrics clients take for the kubelets of nodes (docs/protocol/transport.md 6.3).
//!
//! ```text
//! API server --TLS--> caller: who is it, may it --> route: which node --> nodestreams: a stream in that node's session
//! ```
//!
//! Promises: nobody is served without a certificate of the cluster's CA or a token the API server knows, and without the rights
//! the kubelet asks for; a node is asked only for what was asked of it.

mod caller;
mod identity;
mod route;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use httpproxy::{Framing, Terms};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Client, Place};
use message::NodeName;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::cloudhub::material::Trust;
use crate::edgecontroller::KubeletHost;
use crate::kubernetes::Cluster;
use crate::nodestreams::NodeStreams;
use caller::{Caller, Callers};
pub use identity::IdentityError;
use identity::Shown;

/// Connections open at once; what is under way at the stop is given up soon.
const TERMS: listener::Terms = listener::Terms {
    what: "the stream server",
    places: 1024,
    first_byte: PATIENCE,
    drain: Duration::from_secs(1),
};
/// A client that does not finish its handshake, or its request, leaves.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a node may take for the head of its answer: commands are started before.
const ANSWER: Duration = Duration::from_secs(90);
/// Sessions in which nothing moves end after this (kubelet's `streamingConnectionIdleTimeout`).
const IDLE: Duration = Duration::from_secs(4 * 3600);
/// The head of a request: commands are part of it.
const HEAD: usize = 64 * 1024;
const HEADERS: usize = 64;
/// Requests under way at once, for all nodes.
const REQUESTS: usize = 2048;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Checked configuration (`modules.cloudStream`).
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// Where edges ask for KubeEdge's tunnel.
    pub tunnels: SocketAddr,
    /// CAs of API servers' client certificates; where the file does not exist, the cluster's own.
    pub client_ca: PathBuf,
    /// Certificate and key that are shown; where they do not exist, CloudCore's CA signs one.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Names of that one.
    pub names: Vec<String>,
    /// Where other replicas reach this one.
    pub own_address: IpAddr,
    /// Written as the address of every node, with this server's port: API servers reach all of them here. `None`: nodes keep
    /// their own.
    pub node_address: Option<KubeletHost>,
    /// In which every node has a name that leads here.
    pub node_domain: Option<Arc<str>>,
}

#[derive(Debug, thiserror::Error)]
pub enum StreamServerError {
    #[error("listening for API servers on {address} (modules.cloudStream.streamPort)")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("TLS of the stream server")]
    Identity(#[source] IdentityError),
}

/// Bound, and not serving.
pub struct StreamServer {
    listener: TcpListener,
    shown: Shown,
    server: Arc<Server>,
}

struct Server {
    names: route::Names,
    cluster: Cluster,
    callers: Callers,
    nodes: NodeStreams,
    requests: Arc<Semaphore>,
}

/// What is answered instead of what was asked, in words for who asked.
struct Refusal(StatusCode, String);

impl StreamServer {
    pub async fn build(
        settings: &Settings,
        cluster: Cluster,
        nodes: NodeStreams,
        trust: watch::Receiver<Arc<Trust>>,
    ) -> Result<StreamServer, StreamServerError> {
        let shown = Shown::build(settings, cluster.ca(), trust).await;
        let shown = shown.map_err(StreamServerError::Identity)?;
        let address = settings.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| StreamServerError::Listen { address, source })?;
        let own = match &settings.node_address {
            Some(KubeletHost::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let names = route::Names { own, domain: settings.node_domain.clone() };
        let server = Arc::new(Server {
            names,
            callers: Callers::new(cluster.clone()),
            cluster,
            nodes,
            requests: Arc::new(Semaphore::new(REQUESTS)),
        });
        Ok(StreamServer { listener, shown, server })
    }

    /// Serves until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let (tls, server) = (self.shown.acceptor(), self.server);
        let serve = move |client: Client<TcpListener>| talk(client, tls.clone(), server.clone());
        tokio::select! {
            never = self.shown.follow() => match never {},
            () = listener::serve(self.listener, TERMS, stop, serve) => Ok(()),
        }
    }
}

async fn talk(client: Client<TcpListener>, tls: TlsAcceptor, server: Arc<Server>) {
    let shaken = tokio::time::timeout(PATIENCE, tls.accept(client.stream)).await;
    // Who shows a certificate of another CA gets no further than the handshake.
    let Ok(Ok(stream)) = shaken else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let known = certificate.and_then(|certificate| Caller::of_certificate(certificate));
    let (place, from, stop): (Place, _, _) = (client.place, client.peer.ip(), client.stop);
    let service = service_fn(|request| {
        place.settle();
        let (server, known, stop) = (server.clone(), known.clone(), stop.clone());
        async move {
            let answer = server.answer(request, known, from, stop).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|Refusal(status, text)| refused(status, text)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "connection to the stream server ended");
    }
}

impl Server {
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        known: Option<Caller>,
        from: IpAddr,
        stop: CancellationToken,
    ) -> Result<Response<Body>, Refusal> {
        let caller = self.callers.who(known, request.headers(), from).await?;
        let access = route::access(request.method(), request.uri().path());
        let node = match self.node(&request).await {
            Ok(node) => node,
            Err(refusal) => {
                // Which pods there are is told to those alone who may ask any node.
                self.callers.check(&caller, None, &access).await?;
                return Err(refusal);
            }
        };
        self.callers.check(&caller, Some(&node), &access).await?;
        let busy = |_| Refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests are under way".to_owned());
        let keep: OwnedSemaphorePermit = self.requests.clone().try_acquire_owned().map_err(busy)?;
        let stream = self.nodes.open(&node).await;
        let stream = stream.map_err(|why| {
            // Of a 503 kube-apiserver hands on the status alone, of a 502 the text.
            Refusal(StatusCode::BAD_GATEWAY, format!("node {:?} cannot be asked: {why}", node.as_str()))
        })?;
        let client = hyper::upgrade::on(&mut request);
        let is_port = route::is_port(request.uri().path());
        let terms = Terms { patience: ANSWER, idle: IDLE, framing: Framing::Unknown, stop };
        let answer = httpproxy::hand_on(stream, onward(request)?, client, terms, keep).await;
        let answer = answer.map_err(|error| {
            let text = format!("asking node {:?}: {}", node.as_str(), daemon::errors::describe(&error));
            Refusal(StatusCode::BAD_GATEWAY, text)
        })?;
        let (parts, body) = answer.into_parts();
        let mut handed = Response::new(body.boxed_unsync());
        *handed.status_mut() = parts.status;
        *handed.headers_mut() = handed_on(parts.status, &parts.headers, is_port);
        Ok(handed)
    }

    /// The node that is meant: that of the pod, or the one the request names.
    async fn node(&self, request: &Request<Incoming>) -> Result<NodeName, Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        let unknown = || {
            let text = "no node is named: by X-Forwarded-Uri, or by the host name this was asked under";
            Refusal(StatusCode::NOT_FOUND, text.to_owned())
        };
        let name = match route::pod(uri.path()) {
            Some((namespace, name)) => {
                let node = self.node_of_pod(namespace, name).await?;
                // Who may proxy to one node does not get to pods of another by it.
                if route::proxied_elsewhere(headers, &node) {
                    let text = format!("pod {namespace}/{name} is not on the node that is asked");
                    return Err(Refusal(StatusCode::NOT_FOUND, text));
                }
                node
            }
            None => route::node(uri, headers, &self.names).ok_or_else(unknown)?,
        };
        NodeName::new(&name).map_err(|error| Refusal(StatusCode::NOT_FOUND, error.to_string()))
    }

    async fn node_of_pod(&self, namespace: &str, name: &str) -> Result<String, Refusal> {
        let path = apimachinery::kinds::lines::Pod.path(Some(namespace), name);
        let pod = self.cluster.get(&path).await.map_err(|status| {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_GATEWAY);
            Refusal(code, format!("looking for pod {namespace}/{name}: {status}"))
        })?;
        let pod = pod
            .parse::<serde_json::Value>()
            .map_err(|error| Refusal(StatusCode::BAD_GATEWAY, error.to_string()))?;
        let node = pod.pointer("/spec/nodeName").and_then(serde_json::Value::as_str).unwrap_or_default();
        match node {
            "" => {
                let text = format!("pod {namespace}/{name} does not have a host assigned");
                Err(Refusal(StatusCode::BAD_REQUEST, text))
            }
            node => Ok(node.to_owned()),
        }
    }
}

/// The request as its node gets it.
fn onward(request: Request<Incoming>) -> Result<Request<Incoming>, Refusal> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri =
        path.parse().map_err(|_| Refusal(StatusCode::BAD_REQUEST, format!("{path:?} is not a path")))?;
    let mut onward = Request::new(body);
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = uri;
    *onward.headers_mut() = httpproxy::onward(&parts.headers, HeaderValue::from_static("node"));
    Ok(onward)
}

/// Headers of an answer for who asked: all of an upgrade's, all about the content of what a port answered, the content's type
/// otherwise.
fn handed_on(status: StatusCode, headers: &HeaderMap, is_port: bool) -> HeaderMap {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return headers.clone();
    }
    if is_port {
        return httpproxy::answered(headers);
    }
    let kind = headers.get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone()));
    kind.into_iter().collect()
}

fn refused(status: StatusCode, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
