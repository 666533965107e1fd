//! Certificate signing requests: made by an edge, read by the cloud.

use std::net::IpAddr;

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKey, SanType};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as PublicKeyInfo;
use x509_parser::x509::AttributeTypeAndValue;

use crate::pem::pem;
use crate::subject::{alternative_name, distinguished_name};
use crate::{AuthorityError, NODES_GROUP, edge_common_name};

/// A request whose self-signature was checked.
pub struct SigningRequest {
    params: CertificateSigningRequestParams,
    common_names: Vec<String>,
    organizations: Vec<String>,
    asks_for_more: bool,
}

impl SigningRequest {
    /// Largest request read, in bytes (the Go server's limit is 1 MiB; a P-256 request has 300).
    pub const MAX_BYTES: usize = 64 * 1024;

    /// # Errors
    /// [`AuthorityError`]: the request cannot be read, its signature does not fit, or its key is too weak.
    pub fn from_der(der: &[u8]) -> Result<SigningRequest, AuthorityError> {
        let der = CertificateSigningRequestDer::from(der);
        let (_, read) = X509CertificationRequest::from_der(&der).map_err(|_| AuthorityError::BadRequest {
            source: rcgen::Error::CouldNotParseCertificationRequest,
        })?;
        check_key(&read)?;
        // The signer's library keeps one value of each kind; whoever signs next may read another.
        let params = CertificateSigningRequestParams::from_der(&der)
            .map_err(|source| AuthorityError::BadRequest { source })?;
        let subject = &read.certification_request_info.subject;
        let text = |value: &AttributeTypeAndValue<'_>| value.as_str().unwrap_or_default().to_owned();
        let common_names = subject.iter_common_name().map(text).collect();
        let organizations = subject.iter_organization().map(text).collect();
        let names =
            read.requested_extensions().into_iter().flatten().filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            });
        let asks_for_more =
            names.flatten().any(|name| !matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)));
        Ok(SigningRequest { params, common_names, organizations, asks_for_more })
    }

    /// Reads PEM, the form of Kubernetes' CertificateSigningRequests.
    ///
    /// # Errors
    /// [`AuthorityError`]: there is no request in the text, or as [`SigningRequest::from_der`]'s.
    pub fn from_pem(text: &[u8]) -> Result<SigningRequest, AuthorityError> {
        let der = CertificateSigningRequestDer::from_pem_slice(text).ok();
        let der = der
            .filter(|der| der.len() <= SigningRequest::MAX_BYTES)
            .ok_or(AuthorityError::BadRequest { source: rcgen::Error::CouldNotParseCertificationRequest })?;
        SigningRequest::from_der(&der)
    }

    /// The common name; `None` if there is none or more than one.
    pub fn common_name(&self) -> Option<&str> {
        only(&self.common_names)
    }

    /// The organisation; `None` if there is none or more than one.
    pub fn organization(&self) -> Option<&str> {
        only(&self.organizations)
    }

    /// All organisations: the groups of who shows the certificate.
    pub fn organizations(&self) -> &[String] {
        &self.organizations
    }

    /// True if the request asks for alternative names that are neither hosts nor addresses.
    pub fn asks_for_other_than_hosts(&self) -> bool {
        self.asks_for_more
    }

    /// True if the request asks for names of its own, which an edge has no use for.
    pub fn asks_for_names(&self) -> bool {
        !self.params.params.subject_alt_names.is_empty()
    }

    /// The hosts and addresses it asks for.
    pub fn hosts(&self) -> (Vec<String>, Vec<IpAddr>) {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for name in &self.params.params.subject_alt_names {
            match name {
                SanType::DnsName(name) => names.push(name.to_string()),
                SanType::IpAddress(address) => addresses.push(*address),
                // Told of by `asks_for_other_than_hosts`.
                _ => {}
            }
        }
        (names, addresses)
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.params.public_key
    }
}

/// Bits of the shortest RSA key that is signed, as NIST SP 800-57 has it and TLS libraries check it.
const LEAST_RSA: usize = 2048;

fn check_key(request: &X509CertificationRequest<'_>) -> Result<(), AuthorityError> {
    let key = request.certification_request_info.subject_pki.parsed();
    match key {
        Ok(PublicKeyInfo::RSA(key)) if key.key_size() < LEAST_RSA => {
            Err(AuthorityError::WeakKey { kind: "RSA", bits: key.key_size() })
        }
        // Kinds it does not know are for the signer's library to refuse.
        _ => Ok(()),
    }
}

fn only(values: &[String]) -> Option<&str> {
    match values {
        [one] if !one.is_empty() => Some(one),
        _ => None,
    }
}

/// Makes a key and a request for node `name`: (PKCS#8 key, request DER). Subject as KubeEdge's edges send it, without
/// the place names, which the signer drops.
///
/// # Errors
/// [`AuthorityError`]: no key could be generated, or `name` cannot be in a certificate.
pub fn node_request(name: &str) -> Result<(Vec<u8>, Vec<u8>), AuthorityError> {
    let key = KeyPair::generate().map_err(AuthorityError::Generate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&edge_common_name(name), &[NODES_GROUP.to_owned()])?;
    let request = params.serialize_request(&key).map_err(AuthorityError::Generate)?;
    Ok((key.serialized_der().to_vec(), request.der().to_vec()))
}

/// Makes a key and a request for a certificate that node `name` serves with: (PKCS#8 key, request as PEM). `hosts` are IP
/// addresses and DNS names, as text. Subject as the kubelet's (`pkg/kubelet/certificate/kubelet.go`).
///
/// # Errors
/// [`AuthorityError`]: no key could be generated, or one of `hosts` cannot be in a certificate.
pub fn serving_request(name: &str, hosts: &[String]) -> Result<(Vec<u8>, String), AuthorityError> {
    let key = KeyPair::generate().map_err(AuthorityError::Generate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&edge_common_name(name), &[NODES_GROUP.to_owned()])?;
    params.subject_alt_names =
        hosts.iter().map(|host| alternative_name(host)).collect::<Result<Vec<_>, _>>()?;
    let request = params.serialize_request(&key).map_err(AuthorityError::Generate)?;
    Ok((key.serialized_der().to_vec(), pem("CERTIFICATE REQUEST", request.der())))
}
