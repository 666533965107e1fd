//! What an edge offers in TLS (ALPN) so that one port can tell whom it wants. Go's servers end a handshake in which nothing they
//! know is offered, so `http/1.1` is always offered as well.

use std::sync::Arc;

use rustls::ClientConfig;

/// The registration port.
pub const REGISTER: &str = "causeway-register";
/// The port of KubeEdge's tunnel.
pub const TUNNEL: &str = "causeway-tunnel";

/// The configuration for a connection to one of these.
pub fn offering(config: &ClientConfig, name: &str) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = ["http/1.1", name].map(|name| name.as_bytes().to_vec()).to_vec();
    Arc::new(config)
}
