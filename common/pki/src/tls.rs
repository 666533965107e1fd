//! rustls configurations for the ports of the house.
//!
//! A configuration is built once and lives as long as its port or its dialler; [`LiveServer`] and [`LiveClient`] change
//! what is inside: certificate, key and trusted CAs. Connections that are up stay up; the next handshake sees the change.

mod client;
mod server;
#[cfg(test)]
mod tests;
mod unverified;

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};

pub use client::LiveClient;
pub use server::{ClientCertificate, LiveServer, Presented};
pub use unverified::{client_before_trust, client_of_backends, client_of_backends_as};

use crate::{Bundle, Identity, Subject};

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
    #[error("choosing versions of TLS")]
    Versions(#[source] rustls::Error),
}

/// A server that knows its clients by certificates of `ca` (DER): with an [`Identity`] for good, with a [`LiveServer`]
/// as that one says from time to time. TLS 1.2 stays on for older Go peers. `alpn` may be empty.
///
/// # Errors
/// [`TlsError`]: certificate and key are not a pair, or `ca` is none, or not among those that are trusted.
pub fn server(
    presented: &impl Presented,
    ca: &[u8],
    clients: ClientCertificate,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    Ok(presented.live(ca)?.config(clients, alpn))
}

/// A client that trusts `ca` (DER) and presents `identity` if it has one.
///
/// # Errors
/// [`TlsError`]: certificate and key are not a pair, or `ca` is no CA.
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

impl Bundle {
    /// The CA that signed `certificate` (DER), if it is one of these.
    pub fn signer_of(&self, certificate: &[u8]) -> Option<&CertificateDer<'static>> {
        self.certificates().iter().find(|ca| is_signed_by(certificate, ca))
    }

    /// True if the first CA signed `certificate` (DER).
    pub fn signer_signed(&self, certificate: &[u8]) -> bool {
        self.certificates().first().is_some_and(|ca| is_signed_by(certificate, ca))
    }
}

/// True if the CA `ca` itself (DER) signed the client certificate `certificate` (DER); its dates are not looked at.
fn is_signed_by(certificate: &[u8], ca: &[u8]) -> bool {
    let Ok(subject) = Subject::of(certificate) else { return false };
    let Ok(roots) = roots(&Bundle::of(ca)) else { return false };
    let Ok(verifier) = WebPkiClientVerifier::builder_with_provider(roots, provider()).build() else {
        return false;
    };
    let began = u64::try_from(subject.not_before).unwrap_or(0);
    let began = UnixTime::since_unix_epoch(Duration::from_secs(began));
    verifier.verify_client_cert(&CertificateDer::from(certificate), &[], began).is_ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = CertifiedKey::from_der(identity.chain(), identity.private_key(), &provider());
    key.map(Arc::new).map_err(TlsError::Identity)
}
