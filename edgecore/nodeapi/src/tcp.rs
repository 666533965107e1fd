//! Connections to ports of pods and of the node, for the API's proxies: ours, the kubelet has none.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;

use super::ServerState;
use super::answer::{self, Answer};
use super::router::PortOf;
use super::target::HttpRefusal;

/// Pods and servers of the node are on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// What the connection is upgraded to: bytes both ways.
const PROTOCOL: HeaderValue = HeaderValue::from_static("tcp");
/// Where the node's own servers are asked.
const LOOPBACK: &str = "127.0.0.1";

/// A port that may be connected to.
pub(super) struct Reached {
    address: String,
    port: u16,
    /// For who asked.
    of: String,
}

impl ServerState {
    /// Where this port is, if the node's policy does not keep it closed.
    pub(crate) fn reached(&self, of: &PortOf, port: u16) -> Result<Reached, HttpRefusal> {
        match of {
            PortOf::Node => {
                let allowed = self.forwarded.check(port);
                allowed.map_err(|why| HttpRefusal::new(StatusCode::FORBIDDEN, why.to_string()))?;
                Ok(Reached { address: LOOPBACK.to_owned(), port, of: "the node".to_owned() })
            }
            PortOf::Pod(name) => {
                let address = address(&self.pod(name)?)?;
                Ok(Reached { address, port, of: format!("pod {:?}", name.name) })
            }
        }
    }

    /// A connection that is upgraded to one to the port.
    pub(crate) async fn tcp(
        &self,
        of: &PortOf,
        port: u16,
        mut request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        if request.headers().get(UPGRADE) != Some(&PROTOCOL) || !httpproxy::wants_upgrade(request.headers()) {
            let text = "unable to upgrade: ask for the protocol tcp";
            return Err(HttpRefusal::new(StatusCode::BAD_REQUEST, text));
        }
        let place = self.session()?;
        let stream = self.reached(of, port)?.connect().await?;
        let (client, idle, stop) = (hyper::upgrade::on(&mut request), self.streaming_idle, self.stop.clone());
        daemon::spawn(async move {
            let session = async {
                if let Ok(client) = client.await {
                    httpproxy::carry(client, stream, idle).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = session => {}
            }
            drop(place);
        });
        let mut answer = Response::new(answer::whole(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.headers_mut().insert(UPGRADE, PROTOCOL);
        Ok(answer)
    }
}

impl Reached {
    pub(super) async fn connect(&self) -> Result<TcpStream, HttpRefusal> {
        let connect = TcpStream::connect((self.address.as_str(), self.port));
        match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.failed("connecting", &error)),
            Err(late) => Err(self.failed("connecting", &late)),
        }
    }

    /// What did not work there.
    pub(super) fn failed(&self, doing: &str, error: &dyn std::fmt::Display) -> HttpRefusal {
        let Reached { port, of, .. } = self;
        let text = format!("{doing} to {}, port {port} of {of}: {error}", self.host());
        HttpRefusal::new(StatusCode::BAD_GATEWAY, text)
    }

    /// What requests call the server.
    pub(super) fn host(&self) -> String {
        match self.address.contains(':') {
            true => format!("[{}]:{}", self.address, self.port),
            false => format!("{}:{}", self.address, self.port),
        }
    }
}

/// Where the pod's ports are. For a pod on the node's own network that is the node's address, as for kube-apiserver: who may
/// reach a pod may not reach what listens on the node's loopback only.
fn address(pod: &Pod) -> Result<String, HttpRefusal> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
    address.ok_or_else(|| HttpRefusal::not_found("the pod has no address yet"))
}
