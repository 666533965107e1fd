//! The clients that verify no server.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TlsError;
use crate::Identity;

/// A client that accepts any server: for the one request that fetches the CA certificate, whose hash is then checked
/// against the join token (docs/protocol/transport.md 4.4), and for nothing else.
pub fn client_before_trust() -> Arc<ClientConfig> {
    let verifier = Arc::new(AnyServer { provider: super::provider() });
    Arc::new(
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
    )
}

/// A client of HTTP/1.1 servers that are known by where they are and by nothing they show: the ports of pods and nodes that
/// requests are proxied to, whose certificates kube-apiserver does not verify either
/// (`pkg/controlplane/apiserver/options`, `CreateOutboundDialer`), and those that are probed, as by the kubelet. TLS 1.2 and 1.3; no session is taken up again.
///
/// # Errors
/// [`TlsError`]: the versions of TLS are not those of the cryptography in use.
pub fn client_of_backends() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = super::provider();
    let verifier = Arc::new(AnyServer { provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(TlsError::Versions)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// [`client_of_backends`] that shows who it is: of servers that are chosen by an administrator who wants them not verified.
///
/// # Errors
/// [`TlsError`]: certificate and key are not a pair, or the versions of TLS are not those of the cryptography in use.
pub fn client_of_backends_as(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = super::provider();
    let verifier = Arc::new(AnyServer { provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(TlsError::Versions)?.dangerous().with_custom_certificate_verifier(verifier);
    let resolver = rustls::sign::SingleCertAndKey::from(super::certified(identity)?);
    let mut config = builder.with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
