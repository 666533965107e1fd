//! How the server reaches the Node API of a node: what kube-apiserver reaches at a kubelet's port.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::object::{list, text};
use futures_util::future::BoxFuture;
use pki::tls::LiveClient;
use pki::{Identity, files};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a node's kubelet may take for connecting and the handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// The kubelet's usual port.
const PORT: u16 = 10250;
/// Which of a node's addresses is taken, first to last, as kubeadm has kube-apiserver do it.
const PREFERRED: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// A connection to a Node API, which speaks HTTP/1.1.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Whoever can reach nodes. Everybody it connects is trusted by the node: the server has authorised the caller.
pub trait Nodes: Send + Sync {
    /// A new connection to the Node API of `node`.
    ///
    /// # Errors
    /// Why there is none, for the caller to read.
    fn connect<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<Box<dyn Connection>, String>>;
}

/// Who reaches nodes for logs, exec, attach, port-forward and `nodes/NAME/proxy`.
#[derive(Clone)]
pub enum Reach {
    /// These are not served.
    Nobody,
    /// This program itself.
    Program(Arc<dyn Nodes>),
    /// The kubelet at each node's address and port, as kube-apiserver does; its certificate must be of a CA in this file.
    Kubelets { ca: PathBuf },
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Nobody => f.write_str("Nobody"),
            Reach::Program(_) => f.write_str("Program"),
            Reach::Kubelets { ca } => f.debug_struct("Kubelets").field("ca", ca).finish(),
        }
    }
}

/// How nodes are reached, with what the server shows to kubelets.
pub(crate) struct WayToNodes {
    pub reach: Reach,
    pub identity: Identity,
}

impl WayToNodes {
    /// True if nodes are reached at all.
    pub(crate) fn reaches(&self) -> bool {
        !matches!(self.reach, Reach::Nobody)
    }

    /// `None`: nodes are not reached. `node` is the object.
    pub(crate) async fn connect(&self, node: &Value) -> Option<Result<Box<dyn Connection>, String>> {
        match &self.reach {
            Reach::Nobody => None,
            Reach::Program(nodes) => Some(nodes.connect(text(node, "/metadata/name")).await),
            Reach::Kubelets { ca } => Some(self.kubelet(node, ca.clone()).await),
        }
    }

    async fn kubelet(&self, node: &Value, ca: PathBuf) -> Result<Box<dyn Connection>, String> {
        let address = address(node).ok_or("it tells no address")?.to_owned();
        let port = kubelet_port(node);
        let read = move || Ok(files::read_bundle(&ca));
        let trust = daemon::blocking(read).await.map_err(|error| error.to_string())?;
        let trust = trust.map_err(|error| daemon::errors::describe(&error))?;
        let client = LiveClient::new(&trust, Some(&self.identity));
        let client = client.map_err(|error| daemon::errors::describe(&error))?;
        let name = ServerName::try_from(address.clone()).map_err(|error| error.to_string())?;
        let connect = async {
            let tcp = TcpStream::connect((address.as_str(), port)).await?;
            TlsConnector::from(client.config()).connect(name, tcp).await
        };
        match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(format!("{address}:{port}: {error}")),
            Err(_) => Err(format!("{address}:{port}: no connection within {CONNECT:?}")),
        }
    }
}

/// The port of a node's kubelet.
pub(crate) fn kubelet_port(node: &Value) -> u16 {
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(PORT)
}

/// The address a node is reached at.
fn address(node: &Value) -> Option<&str> {
    let all = list(node, "/status/addresses");
    let of = |kind: &&str| all.iter().find(|address| address["type"] == **kind)?["address"].as_str();
    PREFERRED.iter().find_map(of).filter(|address| !address.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_reached_at_the_address_kubeadm_prefers() {
        let node = |addresses: Value| json!({"status": {"addresses": addresses}});
        let all = node(
            json!([{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}]),
        );
        assert_eq!(address(&all), Some("10.0.0.1"));
        assert_eq!(address(&node(json!([{"type": "Hostname", "address": "n"}]))), Some("n"));
        assert_eq!(address(&json!({})), None);
        let told = json!({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10003}}}});
        assert_eq!((kubelet_port(&told), kubelet_port(&json!({}))), (10003, 10250));
    }
}
