//! How programs of this node reach the Kubernetes API on it.

use std::net::SocketAddr;

/// Addresses of MetaServer, and whom its clients have to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// For pods in the host's network.
    pub host: SocketAddr,
    /// For all others, if there is such an address.
    pub pods: Option<SocketAddr>,
    /// The CAs that sign what it shows, in PEM.
    pub ca: String,
}
