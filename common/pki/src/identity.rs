//! A certificate with its private key.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::der;
use crate::pem::pem;

/// A certificate and its key. The key does not print.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    /// Certificates between this one and a trusted CA. Not kept in files.
    intermediates: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    key: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("no PEM certificate found")]
    Certificate(#[source] rustls_pki_types::pem::Error),
    #[error("no PEM private key found")]
    Key(#[source] rustls_pki_types::pem::Error),
    #[error("the private key is not P-256 in SEC1 or PKCS#8 form")]
    KeyForm,
}

impl Identity {
    /// `key` is PKCS#8 DER.
    pub fn new(certificate: CertificateDer<'static>, key: Vec<u8>) -> Identity {
        Identity { certificate, intermediates: Vec::new(), key }
    }

    /// Reads DER; the key may be SEC1 or PKCS#8.
    ///
    /// # Errors
    /// [`IdentityError`]: the key is not P-256 in one of the two forms.
    pub fn from_der(certificate: &[u8], key: &[u8]) -> Result<Identity, IdentityError> {
        let key = der::pkcs8_from_any(key).ok_or(IdentityError::KeyForm)?;
        Ok(Identity::new(CertificateDer::from(certificate.to_vec()), key))
    }

    /// Reads PEM; the key may be `EC PRIVATE KEY` or `PRIVATE KEY`.
    ///
    /// # Errors
    /// [`IdentityError`]: there is no certificate or no key in the text, or the key is not P-256.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Identity, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(IdentityError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::Key)?;
        Identity::from_der(&certificate, key.secret_der())
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Presents `intermediates` after the certificate.
    pub fn with_intermediates(mut self, intermediates: Vec<CertificateDer<'static>>) -> Identity {
        self.intermediates = intermediates;
        self
    }

    /// Certificates that are presented after the certificate.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// The certificate and its intermediates, as they go on the wire.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.certificate).chain(&self.intermediates).cloned().collect()
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// The key as SEC1 DER, KubeEdge's form on disk and in secrets.
    pub fn key_sec1(&self) -> Option<Vec<u8>> {
        let pair = rcgen::KeyPair::try_from(self.key.as_slice()).ok()?;
        der::sec1_from_pkcs8(&self.key, rcgen::PublicKeyData::der_bytes(&pair))
    }

    /// (certificate, key) as PEM: `CERTIFICATE` and, as KubeEdge writes it, `EC PRIVATE KEY`.
    pub fn to_pem(&self) -> Option<(String, String)> {
        Some((pem("CERTIFICATE", &self.certificate), pem("EC PRIVATE KEY", &self.key_sec1()?)))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", crate::authority::fingerprint(&self.certificate))
    }
}
