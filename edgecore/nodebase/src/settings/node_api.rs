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
    /// Where certificate and key come from.
    pub source: Source,
    /// CAs whose certificates clients may show. `None`: those of the cluster, which the cloud tells and which are kept beside the
    /// certificate; only where that is asked for as well.
    pub client_ca: Option<PathBuf>,
    pub allowed: Allowed,
}

/// Where a certificate and its key come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody else writes the files, and replaces them.
    Files,
    /// This node asks for it by a signing request, and writes the files (`serverTLSBootstrap`).
    Asked,
}

/// Who is served: users by the common names of their certificates, groups by organisations. A user may be called like a
/// group and is not in it.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    pub clients: Vec<String>,
    pub groups: Vec<String>,
}
