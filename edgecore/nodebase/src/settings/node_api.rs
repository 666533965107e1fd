//! Where the Node API is served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the Node API is served, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The unix socket; its mode is 0600.
    pub socket: PathBuf,
    /// `None`: no TLS port.
    pub tls: Option<TlsPort>,
    /// KubeEdge's port without any authentication; `None` unless asked for.
    pub loopback: Option<SocketAddr>,
    /// Exec, attach and port-forward sessions in which nothing moves end after this.
    pub streaming_idle: Duration,
}

/// The authenticated port.
#[derive(Clone, Debug)]
pub struct TlsPort {
    pub address: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// CAs whose certificates clients may show.
    pub client_ca: PathBuf,
    pub allowed: Allowed,
}

/// Who is served: users by the common names of their certificates, groups by organisations. A user may be called like a
/// group and is not in it.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    pub clients: Vec<String>,
    pub groups: Vec<String>,
}
