//! Who a certificate says its holder is.

use std::net::IpAddr;

use rcgen::{DistinguishedName, DnType, SanType};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{AuthorityError, NODES_GROUP};

const NODE_PREFIX: &str = "system:node:";

/// Common name and organisations of a certificate, its serial number, and when it is valid (Unix seconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// Hexadecimal digits.
    pub serial: String,
    pub not_before: i64,
    pub not_after: i64,
}

/// An edge node's name, taken from its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSubject {
    pub node: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error("certificate is not readable X.509")]
    Unreadable,
    #[error(
        "certificate of {common_name:?} is not a node's (wanted system:node:<name> in group system:nodes)"
    )]
    NotANode { common_name: String },
}

/// The common name of node `name`'s certificate.
pub fn edge_common_name(name: &str) -> String {
    format!("{NODE_PREFIX}{name}")
}

/// The node name in a common name.
pub fn node_of(common_name: &str) -> Option<&str> {
    common_name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())
}

/// The hosts a certificate is for: DNS names and IP addresses, as text.
///
/// # Errors
/// [`SubjectError`]: the certificate is no X.509.
pub fn hosts_of(certificate: &[u8]) -> Result<Vec<String>, SubjectError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SubjectError::Unreadable)?;
    let names = parsed.subject_alternative_name().map_err(|_| SubjectError::Unreadable)?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    };
    Ok(names.filter_map(host).collect())
}

impl Subject {
    /// Reads the subject. The caller has verified the chain.
    ///
    /// # Errors
    /// [`SubjectError`]: the certificate is no X.509, or it is not a node's.
    pub fn of(certificate: &[u8]) -> Result<Subject, SubjectError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SubjectError::Unreadable)?;
        let name = parsed.subject();
        let common_name = name.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default();
        let organizations =
            name.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
        Ok(Subject {
            common_name: common_name.to_owned(),
            organizations,
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

impl EdgeSubject {
    /// The node a certificate belongs to: common name `system:node:<name>`, organisation `system:nodes`.
    ///
    /// # Errors
    /// [`SubjectError`]: the certificate is no X.509, or it is not a node's.
    pub fn of(certificate: &[u8]) -> Result<EdgeSubject, SubjectError> {
        let subject = Subject::of(certificate)?;
        match node_of(&subject.common_name) {
            Some(node) if subject.organizations.iter().any(|group| group == NODES_GROUP) => {
                Ok(EdgeSubject { node: node.to_owned() })
            }
            _ => Err(SubjectError::NotANode { common_name: subject.common_name }),
        }
    }
}

/// A name as it is in certificates and requests.
/// `rcgen` keeps one value of each type of attribute: a second organization is told by the number of its type.
pub(crate) fn distinguished_name(
    common_name: &str,
    organizations: &[String],
) -> Result<DistinguishedName, AuthorityError> {
    const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
    let mut name = DistinguishedName::new();
    let types = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION.to_vec())];
    if organizations.len() > types.len() {
        return Err(AuthorityError::Organizations { count: organizations.len(), most: types.len() });
    }
    for (organization, kind) in organizations.iter().zip(types) {
        name.push(kind, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}

/// A host as it is in certificates and requests: an IP address or a DNS name.
pub(crate) fn alternative_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || AuthorityError::BadName { name: name.to_owned() };
    if name.is_empty() {
        return Err(bad());
    }
    name.try_into().map(SanType::DnsName).map_err(|_| bad())
}
