//! Names of nodes and objects, and the resource path that carries them (docs/protocol/transport.md 1.4).

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of an edge node, as in its certificate's common name `system:node:<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// Checks the DNS subdomain rules Kubernetes sets for node names.
    ///
    /// # Errors
    /// [`KeyError::BadNodeName`].
    pub fn new(name: &str) -> Result<NodeName, KeyError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if name.len() > 253
            || !name.chars().all(legal)
            || !edge(name.chars().next())
            || !edge(name.chars().last())
        {
            return Err(KeyError::BadNodeName { name: name.chars().take(64).collect() });
        }
        Ok(NodeName(name.to_owned()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Version of an object as the API server counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceVersion(pub String);

impl ResourceVersion {
    /// True if `self` may replace `other`: numerically newer, or not comparable and different (docs/protocol/transport.md 3.8).
    pub fn is_newer_than(&self, other: &ResourceVersion) -> bool {
        match (self.0.parse::<u64>(), other.0.parse::<u64>()) {
            (Ok(mine), Ok(theirs)) => mine.cmp(&theirs) == Ordering::Greater,
            _ => self.0 != other.0,
        }
    }
}

/// The type part of a resource path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    Pod,
    ConfigMap,
    Secret,
    Node,
    Lease,
    Event,
    ServiceAccountToken,
    PersistentVolume,
    PersistentVolumeClaim,
    VolumeAttachment,
    CertificateSigningRequest,
    /// Ours: KubeEdge's cloud does not serve it.
    RuntimeClass,
    Device,
    DeviceModel,
    PodStatus,
    NodeStatus,
    PodPatch,
    NodePatch,
    /// Any other lower-case kind (service, endpointslice, serviceaccountaccess, ...).
    Other(String),
}

const KINDS: &[(&str, ObjectKind)] = &[
    ("pod", ObjectKind::Pod),
    ("configmap", ObjectKind::ConfigMap),
    ("secret", ObjectKind::Secret),
    ("node", ObjectKind::Node),
    ("lease", ObjectKind::Lease),
    ("event", ObjectKind::Event),
    ("serviceaccounttoken", ObjectKind::ServiceAccountToken),
    ("persistentvolume", ObjectKind::PersistentVolume),
    ("persistentvolumeclaim", ObjectKind::PersistentVolumeClaim),
    ("volumeattachment", ObjectKind::VolumeAttachment),
    ("certificatesigningrequest", ObjectKind::CertificateSigningRequest),
    ("runtimeclass", ObjectKind::RuntimeClass),
    ("device", ObjectKind::Device),
    ("devicemodel", ObjectKind::DeviceModel),
    ("podstatus", ObjectKind::PodStatus),
    ("nodestatus", ObjectKind::NodeStatus),
    ("podpatch", ObjectKind::PodPatch),
    ("nodepatch", ObjectKind::NodePatch),
];

impl ObjectKind {
    pub fn parse(word: &str) -> ObjectKind {
        match KINDS.iter().find(|(name, _)| *name == word) {
            Some((_, kind)) => kind.clone(),
            None => ObjectKind::Other(word.to_owned()),
        }
    }
    pub fn as_str(&self) -> &str {
        match self {
            ObjectKind::Other(word) => word,
            known => KINDS.iter().find(|(_, kind)| kind == known).map_or("", |(name, _)| name),
        }
    }
    /// Kinds without a namespace, written with the literal namespace `null`.
    pub fn is_cluster_scoped(&self) -> bool {
        matches!(
            self,
            ObjectKind::Node
                | ObjectKind::NodePatch
                | ObjectKind::NodeStatus
                | ObjectKind::PersistentVolume
                | ObjectKind::RuntimeClass
        )
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `<namespace or null>/<kind>/<name>`: the wire resource of an object and its key in the edge's store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `None` is the literal `null` of cluster-scoped objects.
    pub namespace: Option<String>,
    pub kind: ObjectKind,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("{path:?} is not <namespace>/<type>/<name>")]
    NotAnObjectPath { path: String },
    #[error("{name:?} cannot be the name of an object or namespace")]
    BadName { name: String },
    #[error("{name:?} is not a node name (lower-case letters, digits, '-' and '.', at most 253)")]
    BadNodeName { name: String },
}

impl ObjectKey {
    pub fn new(namespace: Option<&str>, kind: ObjectKind, name: &str) -> ObjectKey {
        ObjectKey { namespace: namespace.map(str::to_owned), kind, name: name.to_owned() }
    }

    /// Parses a wire resource of exactly three non-empty parts, each a [`check_name`].
    ///
    /// # Errors
    /// [`KeyError`]: not three parts, or a part is no name.
    pub fn parse(path: &str) -> Result<ObjectKey, KeyError> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            [namespace, kind, name] if parts.iter().all(|part| !part.is_empty()) => {
                check_name(namespace)?;
                check_name(name)?;
                Ok(ObjectKey {
                    namespace: (*namespace != "null").then(|| (*namespace).to_owned()),
                    kind: ObjectKind::parse(kind),
                    name: (*name).to_owned(),
                })
            }
            _ => Err(KeyError::NotAnObjectPath { path: path.chars().take(128).collect() }),
        }
    }

    pub fn namespace_or_null(&self) -> &str {
        self.namespace.as_deref().unwrap_or("null")
    }

    pub fn with_kind(&self, kind: ObjectKind) -> ObjectKey {
        ObjectKey { kind, ..self.clone() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace_or_null(), self.kind, self.name)
    }
}

/// Refuses what would not stay one segment of a URL's path: a name that a node made up must never lead a request to
/// another object than the one that was authorised. Wider than what Kubernetes allows for names of any kind.
///
/// # Errors
/// [`KeyError::BadName`].
pub fn check_name(name: &str) -> Result<(), KeyError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:@+=,".contains(c);
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(KeyError::BadName { name: name.chars().take(64).collect() });
    }
    Ok(())
}

/// Removes `node/<name>/` from the front of a resource: applied when it starts with the letters `node` and has at
/// least three parts, else the text is left alone (docs/protocol/transport.md 1.4, the exact rule of the Go hub).
///
/// ```
/// assert_eq!(message::trim_node_prefix("node/edge-1/default/pod/p"), "default/pod/p");
/// assert_eq!(message::trim_node_prefix("node/x"), "node/x");
/// ```
pub fn trim_node_prefix(resource: &str) -> &str {
    if !resource.starts_with("node") {
        return resource;
    }
    let mut parts = resource.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(rest)) => rest,
        _ => resource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_prefix_is_trimmed_by_the_exact_rule_of_the_go_hub() {
        assert_eq!(trim_node_prefix("node/edge-1/default/pod/p"), "default/pod/p");
        assert_eq!(trim_node_prefix("node/edge-1/twin"), "twin");
        assert_eq!(trim_node_prefix("node/x"), "node/x");
        let job = "operations.kubeedge.io/v1alpha2/imageprepulljob/j/node/edge-1";
        assert_eq!(trim_node_prefix(job), job);
    }

    #[test]
    fn every_kind_reads_back_as_itself() {
        for (word, kind) in KINDS {
            assert_eq!(&ObjectKind::parse(word), kind);
            assert_eq!(kind.as_str(), *word);
        }
    }

    #[test]
    fn versions_compare_as_numbers_and_never_panic() {
        let version = |text: &str| ResourceVersion(text.into());
        assert!(version("10").is_newer_than(&version("9")));
        assert!(!version("9").is_newer_than(&version("10")));
        assert!(!version("9").is_newer_than(&version("9")));
        assert!(version("x").is_newer_than(&version("9")));
    }

    #[test]
    fn node_names_follow_the_dns_subdomain_rules() {
        assert!(NodeName::new("edge-1.site").is_ok());
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "../x"] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_would_lead_elsewhere_is_refused() {
        for bad in ["default%2Fsecrets%2Fs?", "a?b", "a#b", "..", ".", "a b", "a\\b", "a\nb", "\u{e4}"] {
            for path in [format!("{bad}/event/e"), format!("d/persistentvolumeclaim/{bad}")] {
                assert!(matches!(ObjectKey::parse(&path), Err(KeyError::BadName { .. })), "{path}");
            }
        }
        for good in ["a.b-c", "system:node:e1", "kube-root-ca.crt", "pod.17f", "A_b"] {
            assert!(ObjectKey::parse(&format!("d/event/{good}")).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_path_with_missing_or_extra_parts_is_refused() {
        assert_eq!(ObjectKey::parse("null/node/e").unwrap().namespace, None);
        for bad in ["", "a/b", "a/b/c/d", "a//c", "/b/c"] {
            assert!(ObjectKey::parse(bad).is_err(), "{bad}");
        }
    }
}
