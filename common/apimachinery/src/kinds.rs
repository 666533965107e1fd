//! Every kind this project knows, in one table: what it is called, where its API is, and whether edges keep it.
//!
//! The table is read by CloudCore, EdgeCore and the embedded API server. A new kind is one line of
//! `kinds/table.rs`. Kinds of other people's CustomResourceDefinitions are named by group, version and plural.

mod table;

use std::fmt;
use std::sync::Arc;

pub use table::{KINDS, ObjectKind, lines};

/// The namespace of the leases that nodes renew, each named as its node.
pub const NODE_LEASES: &str = "kube-node-lease";

/// A resource of the API: the part of its path that says what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// Lower-case plural, as in the path.
    pub resource: String,
}

/// Whether objects of a kind belong to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// Where a kind is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// Kubernetes itself.
    BuiltIn,
    /// A CustomResourceDefinition of KubeEdge.
    Custom,
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// Lower-case plural, as in paths.
    pub resource: &'static str,
    /// As in objects: `ConfigMap`.
    pub kind: &'static str,
    /// What KubeEdge calls it on the link: the kind in lower case. `None` where another group's kind has that word.
    pub word: Option<&'static str>,
    pub scope: Scope,
    pub definition: Definition,
    pub subresources: &'static [&'static str],
    /// What kubectl takes in its place.
    pub short_names: &'static [&'static str],
    /// The place of the kind among what a node is sent, lowest first, so that nothing arrives before what it needs;
    /// `None`: the cloud does not keep it in step on edges.
    pub synced: Option<u8>,
}

impl KindInfo {
    /// `v1` or `apps/v1`, as in objects.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// Path of an object, or of the collection when `name` is empty, as [`api_path`] makes it.
    pub fn path(&self, namespace: Option<&str>, name: &str) -> String {
        api_path(self.group, self.version, self.resource, namespace, name)
    }

    /// The kind whose line this is.
    pub fn object_kind(&self) -> ObjectKind {
        ObjectKind::of_resource(GroupVersionResource::of_parts(self.group, self.version, self.resource))
    }
}

/// The `apiVersion` of objects of a group and version.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// (group, version) of an `apiVersion`; the core group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Path of a collection in the API, or of one object of it.
///
/// `namespace` is `None` for kinds of the cluster and for all namespaces; `name` is empty for the collection. Names are
/// taken as they are: whoever builds a path from a peer's words checks them first.
pub fn api_path(group: &str, version: &str, resource: &str, namespace: Option<&str>, name: &str) -> String {
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let scope = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let (slash, name) = if name.is_empty() { ("", "") } else { ("/", name) };
    format!("{root}/{}{scope}/{resource}{slash}{name}", api_version(group, version))
}

/// The kinds the cloud keeps in step on edges, in the order in which a node is sent them.
pub fn synced() -> Vec<ObjectKind> {
    let mut kinds: Vec<_> =
        KINDS.iter().filter_map(|(kind, info)| info.synced.map(|rank| (rank, kind.clone()))).collect();
    kinds.sort_by_key(|(rank, _)| *rank);
    kinds.into_iter().map(|(_, kind)| kind).collect()
}

impl ObjectKind {
    /// The line of the table; `None` for kinds that are not in it.
    pub fn info(&self) -> Option<&'static KindInfo> {
        table::line(self)
    }

    /// The kind that KubeEdge calls by this word (the kind in lower case).
    pub fn of_word(word: &str) -> ObjectKind {
        let known = KINDS.iter().find(|(_, info)| info.word == Some(word));
        known.map_or_else(|| ObjectKind::Unknown(Arc::from(word)), |(kind, _)| kind.clone())
    }

    /// The kind of a resource: the table's if it has a line for this version.
    pub fn of_resource(resource: GroupVersionResource) -> ObjectKind {
        let is_it = |info: &KindInfo| {
            info.group == resource.group
                && info.resource == resource.resource
                && info.version == resource.version
        };
        let known = KINDS.iter().find(|(_, info)| is_it(info)).map(|(kind, _)| kind.clone());
        known.unwrap_or_else(|| ObjectKind::Custom(Arc::new(resource)))
    }

    /// The kind of an object that calls itself by `api_version` and `word` (its kind in lower case). Of a kind that is
    /// not in the table the plural is guessed, as KubeEdge does (`UnsafeKindToResource`).
    pub fn of_object(api_version: &str, word: &str) -> ObjectKind {
        if api_version.is_empty() {
            return ObjectKind::of_word(word);
        }
        let (group, version) = split_api_version(api_version);
        let is_it = |info: &KindInfo| info.group == group && info.kind.eq_ignore_ascii_case(word);
        if let Some((kind, _)) = KINDS.iter().find(|(_, info)| is_it(info)) {
            return kind.clone();
        }
        let (group, version) = (group.to_owned(), version.to_owned());
        ObjectKind::of_resource(GroupVersionResource { group, version, resource: guess_plural(word) })
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> ObjectKind {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [group, version, resource] => {
                ObjectKind::of_resource(GroupVersionResource::of_parts(group, version, resource))
            }
            _ => ObjectKind::of_word(text),
        }
    }

    /// Group, version and plural; `None` for a kind that is known by a mere word.
    pub fn resource(&self) -> Option<GroupVersionResource> {
        match (self, self.info()) {
            (_, Some(info)) => Some(GroupVersionResource {
                group: info.group.to_owned(),
                version: info.version.to_owned(),
                resource: info.resource.to_owned(),
            }),
            (ObjectKind::Custom(resource), None) => Some((**resource).clone()),
            _ => None,
        }
    }

    /// The one word KubeEdge has for the kind; `None` for kinds it would take for another one.
    pub fn word(&self) -> Option<&str> {
        match (self, self.info()) {
            (_, Some(info)) => info.word,
            (ObjectKind::Unknown(word), None) => Some(word),
            _ => None,
        }
    }

    /// True for kinds of the table whose objects are in no namespace.
    pub fn is_cluster_scoped(&self) -> bool {
        self.info().is_some_and(|info| info.scope == Scope::Cluster)
    }

    /// The place among what a node is sent, lowest first; kinds that are not in the table come last.
    pub fn rank(&self) -> u8 {
        self.info().and_then(|info| info.synced).unwrap_or(u8::MAX)
    }
}

/// The word of the kind, or `group/version/plural` where it has none; the core group is written `core`.
impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.word(), self.resource()) {
            (None, Some(resource)) => resource.fmt(f),
            (word, _) => f.write_str(word.unwrap_or_default()),
        }
    }
}

/// What KubeEdge writes for the core group, whose name is empty.
const CORE: &str = "core";

/// `group/version/plural`, the core group as `core`.
impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.group.is_empty() { CORE } else { &self.group };
        write!(f, "{group}/{}/{}", self.version, self.resource)
    }
}

impl GroupVersionResource {
    /// Reads the three parts as they are written by `Display`.
    pub fn of_parts(group: &str, version: &str, resource: &str) -> GroupVersionResource {
        let group = if group == CORE { "" } else { group };
        GroupVersionResource {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
        }
    }
}

/// The plural as apimachinery's `UnsafeGuessKindToResource` guesses it.
fn guess_plural(word: &str) -> String {
    match word.as_bytes() {
        [.., b's'] => format!("{word}es"),
        [rest @ .., b'y'] => format!("{}ies", String::from_utf8_lossy(rest)),
        _ => format!("{word}s"),
    }
}

#[cfg(test)]
mod tests;
