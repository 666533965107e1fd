//! rustls configurations for the ports of the house.
//!
//! A configuration is built once and lives as long as its port or its dialler; [`LiveServer`] and [`LiveClient`] change
//! what is inside: certificate, key and trusted CAs. Connections that are up stay up; the next handshake sees the change.

mod before_trust;
mod client;
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use before_trust::client_before_trust;
pub use client::LiveClient;
pub use server::{ClientCertificate, LiveServer, Presented};

use crate::{Bundle, Identity};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("CA certificate is not usable as a trust root")]
    Root(#[source] rustls::Error),
    #[error("building the client certificate verifier")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("certificate and key do not fit together")]
    Identity(#[source] rustls::Error),
    #[error("the CA named is not among those trusted")]
    NotTrusted,
}

/// A server that knows its clients by certificates of `ca` (DER): with an [`Identity`] for good, with a [`LiveServer`]
/// as that one says from time to time. TLS 1.2 stays on for older Go peers. `alpn` may be empty.
pub fn server(
    presented: &impl Presented,
    ca: &[u8],
    clients: ClientCertificate,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    Ok(presented.live(ca)?.config(clients, alpn))
}

/// A client that trusts `ca` (DER) and presents `identity` if it has one.
pub fn client(ca: &[u8], identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    Ok(LiveClient::new(&Bundle::of(ca), identity)?.config())
}

fn roots(bundle: &Bundle) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in bundle.certificates() {
        roots.add(ca.clone()).map_err(TlsError::Root)?;
    }
    Ok(Arc::new(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = CertifiedKey::from_der(identity.chain(), identity.private_key(), &provider());
    key.map(Arc::new).map_err(TlsError::Identity)
}
