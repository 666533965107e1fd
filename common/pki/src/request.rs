//! Certificate signing requests: made by an edge, read by the cloud.

use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, DnValue, KeyPair, PublicKey};
use rustls_pki_types::CertificateSigningRequestDer;

use crate::authority::distinguished_name;
use crate::{AuthorityError, NODES_GROUP, edge_common_name};

/// A request whose self-signature was checked.
pub struct SigningRequest {
    params: CertificateSigningRequestParams,
}

impl SigningRequest {
    /// Largest request read, in bytes (the Go server's limit is 1 MiB; a P-256 request has 300).
    pub const MAX_BYTES: usize = 64 * 1024;

    pub fn from_der(der: &[u8]) -> Result<SigningRequest, AuthorityError> {
        let der = CertificateSigningRequestDer::from(der);
        let params =
            CertificateSigningRequestParams::from_der(&der).map_err(AuthorityError::BadCertificate)?;
        Ok(SigningRequest { params })
    }

    pub fn common_name(&self) -> Option<String> {
        self.text(&DnType::CommonName)
    }

    pub fn organization(&self) -> Option<String> {
        self.text(&DnType::OrganizationName)
    }

    /// True if the request asks for names of its own, which an edge has no use for.
    pub fn asks_for_names(&self) -> bool {
        !self.params.params.subject_alt_names.is_empty()
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.params.public_key
    }

    fn text(&self, kind: &DnType) -> Option<String> {
        match self.params.params.distinguished_name.get(kind)? {
            DnValue::Utf8String(text) => Some(text.clone()),
            DnValue::PrintableString(text) => Some(text.as_str().to_owned()),
            _ => None,
        }
    }
}

/// Makes a key and a request for node `name`: (PKCS#8 key, request DER). Subject as KubeEdge's edges send it, without
/// the place names, which the signer drops.
pub fn node_request(name: &str) -> Result<(Vec<u8>, Vec<u8>), AuthorityError> {
    let key = KeyPair::generate().map_err(AuthorityError::Generate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&edge_common_name(name), &[NODES_GROUP.to_owned()]);
    let request = params.serialize_request(&key).map_err(AuthorityError::Generate)?;
    Ok((key.serialized_der().to_vec(), request.der().to_vec()))
}
