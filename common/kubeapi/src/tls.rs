//! TLS that asks for a client certificate and lets any through: whether it is one of ours is answered with a 401
//! Status by the backend, not with a broken handshake.

use std::sync::Arc;

use pki::Identity;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the CA certificate is not usable as a trust root")]
    Root(#[source] Error),
    #[error("building the client certificate verifier")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("the serving certificate and its key do not fit together")]
    Identity(#[source] Error),
}

/// What a handshake needs.
#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ServerConfig>,
    /// Checks client certificates against the CA.
    pub verifier: Arc<dyn ClientCertVerifier>,
}

/// Serves as `serving`, whose chain ends in `ca` (DER), which also signs clients.
///
/// # Errors
/// The CA or the identity is not usable.
pub fn configure(serving: &Identity, ca: &[u8]) -> Result<Tls, TlsError> {
    let ca = CertificateDer::from(ca.to_vec());
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(TlsError::Root)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(TlsError::Verifier)?;
    let lenient = Arc::new(AnyClient { strict: verifier.clone() });
    let config = ServerConfig::builder()
        .with_client_cert_verifier(lenient)
        .with_single_cert(vec![serving.certificate().clone(), ca], serving.private_key())
        .map_err(TlsError::Identity)?;
    Ok(Tls { config: Arc::new(with_protocols(config)), verifier })
}

/// Serves as `serving` says at each handshake; `verifier` says whose certificate it is.
pub fn live(serving: Arc<dyn ResolvesServerCert>, verifier: Arc<dyn ClientCertVerifier>) -> Tls {
    let lenient = Arc::new(AnyClient { strict: verifier.clone() });
    let config = ServerConfig::builder().with_client_cert_verifier(lenient).with_cert_resolver(serving);
    Tls { config: Arc::new(with_protocols(config)), verifier }
}

fn with_protocols(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[derive(Debug)]
struct AnyClient {
    strict: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
