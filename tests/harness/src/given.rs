//! A cluster that is there: tests that ask for it run against its API server and controllers instead of the embedded API server.
//!
//! `CAUSEWAY_KUBECONFIG=FILE cargo nextest run -p e2e --test streams --test stream_server --test life_cycle -j 1`
//!
//! CloudCore has the rights of its [account](crate::account) there, which is made.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use anyhow::Result;

use crate::kubectl::Kubectl;

/// Names the kubeconfig of a cluster's administrator.
const VARIABLE: &str = "CAUSEWAY_KUBECONFIG";

/// The administrator's kubeconfig; none: the embedded API server is used.
pub fn kubeconfig() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// An address of this machine by which API servers reach nodes: kube-apiserver proxies to no loopback address. Loopback where there
/// is no other.
pub fn address() -> IpAddr {
    // Nothing is sent: the kernel says which address it would be sent from.
    let asked = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("198.51.100.1:9")?;
        socket.local_addr()
    });
    asked.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// In which every node has a name of its own, which no DNS knows.
pub const DOMAIN: &str = "edges.causeway.test";

/// Settings of a CloudCore whose stream server API servers take for the kubelet of each node.
pub fn stream_server(stream: u16, tunnel: u16, address: &str) -> Vec<String> {
    vec![
        "modules.cloudStream.enable=true".to_owned(),
        format!("modules.cloudStream.streamPort={stream}"),
        format!("modules.cloudStream.tunnelPort={tunnel}"),
        format!("modules.cloudStream.nodeAddress={address}"),
        format!("modules.cloudStream.nodeDomain={DOMAIN}"),
        "modules.cloudStream.ownAddress=127.0.0.1".to_owned(),
    ]
}

/// Removes a node of an earlier test, its pods and its devices from the given cluster, if there is one. Nothing else is touched.
pub fn forget(node: &str) -> Result<()> {
    let Some(path) = kubeconfig() else { return Ok(()) };
    let kubectl = Kubectl::new(&path);
    let pods = format!("spec.nodeName={node}");
    kubectl.run(&["delete", "pods", "-A", "--field-selector", &pods, "--force", "--grace-period=0"])?;
    kubectl.run(&["delete", "node", node, "--ignore-not-found"])?;
    // A cluster in which nothing was installed yet has no devices.
    let path = format!("jsonpath={{.items[?(@.spec.nodeName==\"{node}\")].metadata.name}}");
    let devices = kubectl.run(&["get", "devices.devices.kubeedge.io", "-o", &path]).unwrap_or_default();
    for device in devices.split_whitespace() {
        kubectl.run(&["delete", "devices.devices.kubeedge.io", device])?;
    }
    Ok(())
}
