//! The CAs a peer trusts, as one PEM text.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::{Subject, SubjectError};

/// Trusted CA certificates without duplicates, in the order they were given: the one that signs comes first, if the
/// writer knows it. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("CA bundle has {bytes} bytes, at most {limit} are read", limit = Bundle::MAX_BYTES)]
    TooLarge { bytes: usize },
    #[error("CA bundle holds no PEM certificate")]
    Empty,
    #[error("CA bundle holds {count} certificates, at most {limit} are read", limit = Bundle::MAX_CERTIFICATES)]
    TooMany { count: usize },
    #[error("reading the CA bundle's PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    #[error("certificate {number} of the CA bundle")]
    Certificate { number: usize, source: SubjectError },
}

impl Bundle {
    /// Longest PEM text read, in bytes.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// A rotation needs two; the rest is room for operators who do not retire old ones.
    pub const MAX_CERTIFICATES: usize = 16;

    /// Trust in one CA, given as DER.
    pub fn of(ca: &[u8]) -> Bundle {
        Bundle { certificates: vec![CertificateDer::from(ca.to_vec())] }
    }

    /// Reads PEM text of one or more certificates; other PEM sections are passed over.
    ///
    /// # Errors
    /// [`BundleError`]: too many bytes or certificates, none at all, or one that cannot be read.
    pub fn from_pem(text: &[u8]) -> Result<Bundle, BundleError> {
        if text.len() > Bundle::MAX_BYTES {
            return Err(BundleError::TooLarge { bytes: text.len() });
        }
        let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
        for (at, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
            let certificate = certificate.map_err(BundleError::Pem)?;
            Subject::of(&certificate)
                .map_err(|source| BundleError::Certificate { number: at + 1, source })?;
            if !certificates.contains(&certificate) {
                certificates.push(certificate);
            }
        }
        match certificates.len() {
            0 => Err(BundleError::Empty),
            count if count > Bundle::MAX_CERTIFICATES => Err(BundleError::TooMany { count }),
            _ => Ok(Bundle { certificates }),
        }
    }

    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(|certificate| crate::pem::certificate_pem(certificate)).collect()
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub fn contains(&self, ca: &[u8]) -> bool {
        self.certificates.iter().any(|certificate| certificate.as_ref() == ca)
    }

    /// This trust and one CA more.
    pub fn with(mut self, ca: &[u8]) -> Bundle {
        if !self.contains(ca) {
            self.certificates.push(CertificateDer::from(ca.to_vec()));
        }
        self
    }

    /// This trust, with `ca` as the CA that signs.
    pub fn signed_by(self, ca: &[u8]) -> Bundle {
        let mut bundle = Bundle::of(ca);
        bundle.certificates.extend(self.certificates.into_iter().filter(|other| other.as_ref() != ca));
        bundle
    }

    /// When the newest of the CAs began (Unix seconds): whoever holds it knows that the time is not earlier.
    pub fn newest_start(&self) -> i64 {
        let starts = self.certificates.iter().filter_map(|certificate| Subject::of(certificate).ok());
        starts.map(|subject| subject.not_before).max().unwrap_or(0)
    }
}
