//! A connection to a port of a pod, for the API's proxies of pods and services: ours, the kubelet has none.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;

use super::ServerState;
use super::answer::{self, Answer};
use super::router::PodName;
use super::target::HttpRefusal;

/// A pod is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// What the connection is upgraded to: bytes both ways.
const PROTOCOL: HeaderValue = HeaderValue::from_static("tcp");

impl ServerState {
    pub(crate) async fn tcp(
        &self,
        pod: &PodName,
        port: u16,
        mut request: Request<Incoming>,
    ) -> Result<Answer, HttpRefusal> {
        if request.headers().get(UPGRADE) != Some(&PROTOCOL) || !httpproxy::wants_upgrade(request.headers()) {
            let text = "unable to upgrade: ask for the protocol tcp";
            return Err(HttpRefusal::new(StatusCode::BAD_REQUEST, text));
        }
        let place = self.session()?;
        let address = address(&self.pod(pod)?)?;
        let failed = |error: &dyn std::fmt::Display| {
            HttpRefusal::new(
                StatusCode::BAD_GATEWAY,
                format!("connecting to {address}:{port} of pod {:?}: {error}", pod.name),
            )
        };
        let stream = match tokio::time::timeout(CONNECT, TcpStream::connect((address.as_str(), port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(&error)),
            Err(late) => return Err(failed(&late)),
        };
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

/// Where the pod's ports are. For a pod on the node's own network that is the node's address, as for kube-apiserver: who may
/// reach a pod may not reach what listens on the node's loopback only.
fn address(pod: &Pod) -> Result<String, HttpRefusal> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
    address.ok_or_else(|| HttpRefusal::not_found("the pod has no address yet"))
}
