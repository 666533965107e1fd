//! The CA of a cluster as its secret holds it, and the steps of replacing it.
//!
//! ```text
//! begin     next CA made, trusted beside the old one; nothing is signed with it yet   (edges learn to trust it)
//! promote   after the overlap: it signs; its server certificates come with it cross-signed by the old CA
//! retire    when every edge has renewed: only it is trusted
//! ```
//!
//! Join tokens and `/ca.crt` follow the CA that signs, so a node that joins sees one CA at any time. A node that was
//! away for the whole overlap still trusts the old CA, is led to the new one by the cross-signed certificate, and
//! learns of it. Pure: who stores the secret guards against two writers. `cadata` and `cakeydata` are KubeEdge's
//! (docs/protocol/transport.md 4.1), the other keys ours.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;

use crate::{Authority, AuthorityError, Bundle, BundleError};

/// Certificate of the CA that signs, DER.
const CERTIFICATE: &str = "cadata";
/// Its key, SEC1 DER.
const KEY: &str = "cakeydata";
/// Every trusted CA, PEM.
const BUNDLE: &str = "cabundle";
/// The CA that signs, cross-signed by the one before it, DER.
const CROSS: &str = "cacross";
const NEXT_CERTIFICATE: &str = "nextcadata";
const NEXT_KEY: &str = "nextcakeydata";
const NEXT_CROSS: &str = "nextcacross";
/// Unix seconds as text: when the next CA begins to sign.
const NEXT_AT: &str = "nextcaat";

/// The data of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CaSecret {
    data: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("the CA secret has no key {key:?}")]
    Missing { key: &'static str },
    #[error("the CA secret's key {key:?} is not readable")]
    Unreadable { key: &'static str },
    #[error("the CA secret's authority")]
    Authority(#[source] AuthorityError),
    #[error("the CA secret's key \"cabundle\"")]
    Bundle(#[source] BundleError),
    #[error("a rotation has begun already: the next CA signs from {at} (Unix seconds) on")]
    Begun { at: i64 },
    #[error("no other CA is trusted, there is nothing to retire")]
    NothingToRetire,
}

impl CaSecret {
    pub fn new(data: BTreeMap<String, Vec<u8>>) -> CaSecret {
        CaSecret { data }
    }

    /// The secret of a CA that was never rotated: KubeEdge's form.
    pub fn of(authority: &Authority) -> CaSecret {
        let certificate = (CERTIFICATE.to_owned(), authority.certificate().to_vec());
        CaSecret { data: BTreeMap::from([certificate, (KEY.to_owned(), authority.key_sec1().to_vec())]) }
    }

    pub fn data(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.data
    }

    fn get(&self, key: &'static str) -> Result<&[u8], RotationError> {
        let bytes = self.data.get(key).filter(|bytes| !bytes.is_empty());
        bytes.map(Vec::as_slice).ok_or(RotationError::Missing { key })
    }

    /// The CA that signs.
    ///
    /// # Errors
    /// [`RotationError`]: the secret lacks the CA, or it cannot be read.
    pub fn authority(&self) -> Result<Authority, RotationError> {
        Authority::from_der(self.get(CERTIFICATE)?, self.get(KEY)?).map_err(RotationError::Authority)
    }

    /// Every CA whose certificates are accepted: the one that signs, then the others.
    ///
    /// # Errors
    /// [`RotationError`]: the secret lacks the CA, or a certificate in it cannot be read.
    pub fn bundle(&self) -> Result<Bundle, RotationError> {
        let mut bundle = match self.get(BUNDLE) {
            Ok(pem) => Bundle::from_pem(pem).map_err(RotationError::Bundle)?,
            Err(_) => Bundle::of(self.get(CERTIFICATE)?),
        };
        if let Ok(certificate) = self.get(NEXT_CERTIFICATE) {
            bundle = bundle.with(certificate);
        }
        Ok(bundle.signed_by(self.get(CERTIFICATE)?))
    }

    /// What leads a peer that knows only the previous CA to the one that signs.
    pub fn intermediates(&self) -> Vec<CertificateDer<'static>> {
        self.get(CROSS).map(|der| vec![CertificateDer::from(der.to_vec())]).unwrap_or_default()
    }

    /// When the next CA begins to sign (Unix seconds), if a rotation has begun.
    ///
    /// # Errors
    /// [`RotationError`]: the secret's date cannot be read.
    pub fn next_at(&self) -> Result<Option<i64>, RotationError> {
        let Ok(text) = self.get(NEXT_AT) else { return Ok(None) };
        let at = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        at.map(Some).ok_or(RotationError::Unreadable { key: NEXT_AT })
    }

    /// Lets `next` be trusted now and sign in `overlap` seconds.
    ///
    /// # Errors
    /// [`RotationError`]: a rotation has begun already, or the secret cannot be read.
    pub fn begin(&mut self, next: &Authority, now: i64, overlap: i64) -> Result<(), RotationError> {
        if let Some(at) = self.next_at()? {
            return Err(RotationError::Begun { at });
        }
        let bundle = self.bundle()?.with(next.certificate());
        let cross = self.authority()?.cross_sign(next, now).map_err(RotationError::Authority)?;
        let at = now.saturating_add(overlap.max(0));
        for (key, value) in [
            (BUNDLE, bundle.to_pem().into_bytes()),
            (NEXT_CERTIFICATE, next.certificate().to_vec()),
            (NEXT_KEY, next.key_sec1().to_vec()),
            (NEXT_CROSS, cross.to_vec()),
            (NEXT_AT, at.to_string().into_bytes()),
        ] {
            self.data.insert(key.to_owned(), value);
        }
        Ok(())
    }

    /// Makes the next CA the one that signs if its time has come; says whether it did.
    ///
    /// # Errors
    /// [`RotationError`]: the secret cannot be read, or lacks a part of the next CA.
    pub fn promote(&mut self, now: i64) -> Result<bool, RotationError> {
        if self.next_at()?.is_none_or(|at| now < at) {
            return Ok(false);
        }
        for key in [NEXT_KEY, NEXT_CERTIFICATE, NEXT_CROSS] {
            self.get(key)?;
        }
        let bundle = self.bundle()?.to_pem().into_bytes();
        for (from, to) in [(NEXT_CERTIFICATE, CERTIFICATE), (NEXT_KEY, KEY), (NEXT_CROSS, CROSS)] {
            let value = self.data.remove(from).ok_or(RotationError::Missing { key: from })?;
            self.data.insert(to.to_owned(), value);
        }
        self.data.insert(BUNDLE.to_owned(), bundle);
        self.data.remove(NEXT_AT);
        Ok(true)
    }

    /// Trusts only the CA that signs.
    ///
    /// # Errors
    /// [`RotationError`]: no other CA is trusted, or a rotation is under way.
    pub fn retire(&mut self) -> Result<(), RotationError> {
        if let Some(at) = self.next_at()? {
            return Err(RotationError::Begun { at });
        }
        if self.bundle()?.certificates().len() == 1 {
            return Err(RotationError::NothingToRetire);
        }
        self.data.remove(BUNDLE);
        self.data.remove(CROSS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn authority() -> Authority {
        crate::install_provider();
        Authority::generate(None, NOW).unwrap()
    }

    #[test]
    fn a_new_ca_is_trusted_before_it_signs_and_the_old_one_after() {
        let (old, new) = (authority(), authority());
        let mut secret = CaSecret::of(&old);
        assert_eq!(secret.bundle().unwrap(), Bundle::of(old.certificate()));
        secret.begin(&new, NOW, 100).unwrap();
        let both = Bundle::of(old.certificate()).with(new.certificate());
        assert_eq!(secret.bundle().unwrap(), both);
        assert!(!secret.promote(NOW + 99).unwrap());
        assert_eq!(secret.authority().unwrap().fingerprint(), old.fingerprint());
        assert!(secret.intermediates().is_empty());
        assert!(secret.promote(NOW + 100).unwrap());
        let promoted = secret.bundle().unwrap();
        assert_eq!(promoted, both.clone().signed_by(new.certificate()), "the one that signs comes first");
        assert!(!secret.promote(NOW + 100).unwrap(), "once");
        assert_eq!(secret.authority().unwrap().fingerprint(), new.fingerprint());
        assert_eq!(secret.intermediates().len(), 1);
        secret.retire().unwrap();
        assert!(secret == CaSecret::of(&new), "nothing of the old CA is left");
        assert!(matches!(secret.retire(), Err(RotationError::NothingToRetire)));
    }

    #[test]
    fn one_rotation_at_a_time_and_none_is_retired_in_its_middle() {
        let mut secret = CaSecret::of(&authority());
        secret.begin(&authority(), NOW, 100).unwrap();
        let before = secret.clone();
        assert!(matches!(secret.begin(&authority(), NOW, 1), Err(RotationError::Begun { .. })));
        assert!(matches!(secret.retire(), Err(RotationError::Begun { .. })));
        assert!(secret == before);
    }

    #[test]
    fn a_damaged_secret_is_refused_with_the_name_of_the_key() {
        let mut secret = CaSecret::of(&authority());
        secret.data.insert(NEXT_AT.into(), b"soon".to_vec());
        assert!(secret.promote(NOW).unwrap_err().to_string().contains("nextcaat"));
        secret.data.insert(NEXT_AT.into(), b"1".to_vec());
        let before = secret.clone();
        assert!(secret.promote(NOW).unwrap_err().to_string().contains("nextcakeydata"));
        assert!(secret == before, "nothing is half promoted");
    }
}
