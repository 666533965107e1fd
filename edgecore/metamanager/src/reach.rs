//! How programs of this node reach the Kubernetes API on it.

use std::net::SocketAddr;
use std::sync::Arc;

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

/// A Service with an address of the cluster, as pods are told of it in their environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownService {
    pub namespace: String,
    pub name: String,
    pub ip: String,
    pub ports: Vec<KnownPort>,
}

/// A port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPort {
    /// May be empty.
    pub name: String,
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// All Services, as far as this node knows them.
pub type KnownServices = Arc<Vec<KnownService>>;
