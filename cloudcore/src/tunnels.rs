//! The tunnel server, for edges that speak KubeEdge's tunnel (docs/protocol/transport.md 6.1): Go edges, and ours where the
//! session's dialect is KubeEdge's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Client, Handed, Place};
use message::NodeName;
use pki::EdgeSubject;
use pki::tls::{ClientCertificate, LiveServer};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::cloudhub::StreamDoor;
use crate::peers;
use crate::refused::{Holder, RefusedNodes};

/// Tunnels at once are as many as sessions; who has not asked for one gives way.
const TERMS: listener::Terms = listener::Terms {
    what: "the tunnel server",
    places: 16 * 1024,
    first_byte: PATIENCE,
    drain: Duration::from_secs(1),
};
const PATIENCE: Duration = Duration::from_secs(15);

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Debug, thiserror::Error)]
#[error("listening for tunnels on {address} (modules.cloudStream.tunnelPort)")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The tunnels that are up, by node.
#[derive(Clone, Default)]
pub struct Tunnels(Arc<Mutex<HashMap<NodeName, Tunnel>>>);

#[derive(Clone)]
struct Tunnel {
    door: StreamDoor,
    /// Whose certificate asked for it.
    holder: Holder,
    /// Ends it.
    over: CancellationToken,
}

impl Tunnels {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeName, Tunnel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where pipes to a node are asked for.
    pub fn door(&self, node: &NodeName) -> Option<StreamDoor> {
        self.lock().get(node).map(|tunnel| tunnel.door.clone())
    }

    /// A node's new tunnel, in the place of the one it had.
    fn enter(&self, node: &NodeName, holder: Holder, over: CancellationToken) -> Tunnel {
        let tunnel = Tunnel { door: StreamDoor::default(), holder, over };
        if let Some(older) = self.lock().insert(node.clone(), tunnel.clone()) {
            older.over.cancel();
        }
        tunnel
    }

    /// Ends the tunnels of those of whom `is_out` is true.
    pub fn end_where(&self, is_out: impl Fn(&NodeName, &Holder) -> bool) {
        let tunnels = self.lock();
        let out = tunnels.iter().filter(|(node, tunnel)| is_out(node, &tunnel.holder));
        out.for_each(|(_, tunnel)| tunnel.over.cancel());
    }

    fn leave(&self, node: &NodeName, tunnel: &Tunnel) {
        tunnel.door.close();
        let mut tunnels = self.lock();
        if tunnels.get(node).is_some_and(|current| current.door.is(&tunnel.door)) {
            tunnels.remove(node);
        }
    }
}

/// A stream to a node of this replica, for another one. `None`: the node is not here.
pub type OpenHere = Arc<dyn Fn(NodeName) -> BoxFuture<'static, Option<DuplexStream>> + Send + Sync>;

/// Bound, and not serving.
pub struct TunnelServer {
    listener: TcpListener,
    tls: TlsAcceptor,
    tunnels: Tunnels,
    refused: RefusedNodes,
    here: OpenHere,
}

impl TunnelServer {
    /// Shows and believes what the hub does.
    pub async fn build(
        address: SocketAddr,
        server: &LiveServer,
        tunnels: Tunnels,
        refused: RefusedNodes,
        here: OpenHere,
    ) -> Result<TunnelServer, ListenError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError { address, source })?;
        let tls = TlsAcceptor::from(server.config(ClientCertificate::Required, &["http/1.1"]));
        Ok(TunnelServer { listener, tls, tunnels, refused, here })
    }

    /// Serves until `stop`, at its port and those `handed` over.
    pub async fn run(self, handed: Handed, stop: CancellationToken) -> Result<(), Infallible> {
        let (tls, tunnels, refused, here) = (self.tls, self.tunnels, self.refused, self.here);
        let serve = move |stream: TcpStream, place: Place, stop: CancellationToken| {
            talk(stream, place, stop, tls.clone(), tunnels.clone(), refused.clone(), here.clone())
        };
        let other = serve.clone();
        let own = move |client: Client<TcpListener>| serve(client.stream, client.place, client.stop);
        let common = move |client: Client<Handed>| other(client.stream, client.place, client.stop);
        tokio::join!(
            listener::serve(self.listener, TERMS, stop.clone(), own),
            listener::serve(handed, TERMS, stop, common)
        );
        Ok(())
    }
}

async fn talk(
    stream: TcpStream,
    place: Place,
    stop: CancellationToken,
    tls: TlsAcceptor,
    tunnels: Tunnels,
    list: RefusedNodes,
    here: OpenHere,
) {
    let shaken = tokio::time::timeout(PATIENCE, tls.accept(stream)).await;
    let Ok(Ok(stream)) = shaken else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let presented = certificate.and_then(|certificate| {
        let node = NodeName::new(&EdgeSubject::of(certificate).ok()?.node).ok()?;
        let holder = Holder::of(certificate, &node);
        Some((node, holder))
    });
    let is_peer = certificate.is_some_and(|certificate| peers::is_peer(certificate));
    let service = service_fn(|request| {
        place.settle();
        let for_peer = is_peer.then(|| peers::asked(request.uri(), request.headers())).flatten();
        let (tunnels, list, stop) = (tunnels.clone(), list.clone(), stop.clone());
        let (presented, here) = (presented.clone(), here.clone());
        async move {
            Ok::<_, Infallible>(match for_peer {
                Some(node) => for_another(request, node, &here, stop).await,
                None => begin(request, presented, &tunnels, &list, &stop),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "connection to the tunnel server ended");
    }
}

/// Answers a request for a tunnel, and runs it. The certificate says whose it is; what the header says must be the same.
fn begin(
    mut request: Request<Incoming>,
    presented: Option<(NodeName, Holder)>,
    tunnels: &Tunnels,
    list: &RefusedNodes,
    stop: &CancellationToken,
) -> Response<Body> {
    let Some((node, holder)) = presented else {
        return refused(StatusCode::FORBIDDEN, "the certificate is no node's".to_owned());
    };
    let said = request.headers().get(tunnel::NODE).and_then(|name| name.to_str().ok()).unwrap_or_default();
    if said != node.as_str() {
        return refused(StatusCode::FORBIDDEN, format!("the certificate is that of {node}, not of {said:?}"));
    }
    if let Err(why) = list.check(&node, &holder) {
        return refused(StatusCode::FORBIDDEN, why);
    }
    let Some((answer, upgrade)) = tunnel::accept(&mut request) else {
        return refused(StatusCode::BAD_REQUEST, format!("ask for a WebSocket at {}", tunnel::PATH));
    };
    let up = tunnels.enter(&node, holder, stop.child_token());
    let tunnels = tunnels.clone();
    daemon::spawn(async move {
        let upgraded = tokio::select! {
            () = up.over.cancelled() => None,
            upgraded = tokio::time::timeout(PATIENCE, upgrade) => upgraded.ok().and_then(Result::ok),
        };
        if let Some(upgraded) = upgraded {
            tracing::info!(%node, "tunnel up");
            let door = up.door.clone();
            let next = move || {
                let door = door.clone();
                async move { door.next().await }
            };
            let over = tunnel::run_cloud(TokioIo::new(upgraded), next, up.over.clone()).await;
            tracing::info!(%node, reason = %daemon::errors::describe(&over), "tunnel over");
        }
        tunnels.leave(&node, &up);
    });
    let (parts, body) = answer.into_parts();
    Response::from_parts(parts, body.boxed_unsync())
}

/// Gives another replica a stream to a node that is connected here.
async fn for_another(
    mut request: Request<Incoming>,
    node: NodeName,
    here: &OpenHere,
    stop: CancellationToken,
) -> Response<Body> {
    let Some(mut stream) = here(node.clone()).await else {
        return refused(StatusCode::NOT_FOUND, format!("node {node} is not connected here"));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    daemon::spawn(async move {
        let carry = async {
            if let Ok(Ok(peer)) = tokio::time::timeout(PATIENCE, upgrade).await {
                // Either end may leave at any time.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(peer), &mut stream).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = carry => {}
        }
    });
    let mut answer = Response::new(Full::default().boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = peers::accepted();
    answer
}

fn refused(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response
}
