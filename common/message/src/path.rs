//! Resource paths of the link: `<namespace or null>/<word>/<name>`, KubeEdge's spelling (docs/protocol/transport.md 1.4).

use std::fmt;

use crate::names::{KeyError, check_name};

/// What KubeEdge writes for the namespace of what is in none.
pub(crate) const NO_NAMESPACE: &str = "null";

/// The three parts of a resource path. The word is the kind of an object in lower case, or what an edge says about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourcePath<'a> {
    pub namespace: Option<&'a str>,
    pub word: &'a str,
    pub name: &'a str,
}

/// Words of the link that are no kinds: what an edge asks for and says about objects.
pub(crate) mod words {
    /// A token of the service account of this name.
    pub(crate) const TOKEN: &str = "serviceaccounttoken";
    /// Whole statuses, of edges before KubeEdge 1.13.
    pub(crate) const POD_STATUS: &str = "podstatus";
    pub(crate) const NODE_STATUS: &str = "nodestatus";
    pub(crate) const STATUSES: [&str; 2] = [POD_STATUS, NODE_STATUS];
    /// Patches of a status.
    pub(crate) const POD_PATCH: &str = "podpatch";
    pub(crate) const NODE_PATCH: &str = "nodepatch";
}

impl<'a> ResourcePath<'a> {
    pub(crate) fn new(namespace: Option<&'a str>, word: &'a str, name: &'a str) -> ResourcePath<'a> {
        ResourcePath { namespace, word, name }
    }

    /// Reads exactly three non-empty parts; namespace and name are each a [`check_name`].
    pub(crate) fn parse(path: &'a str) -> Result<ResourcePath<'a>, KeyError> {
        let mut parts = path.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(word), Some(name), None) if ![namespace, word, name].contains(&"") => {
                check_name(namespace)?;
                check_name(name)?;
                let namespace = (namespace != NO_NAMESPACE).then_some(namespace);
                Ok(ResourcePath { namespace, word, name })
            }
            _ => Err(not_a_path(path)),
        }
    }
}

impl fmt::Display for ResourcePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace.unwrap_or(NO_NAMESPACE), self.word, self.name)
    }
}

pub(crate) fn not_a_path(path: &str) -> KeyError {
    KeyError::NotAnObjectPath { path: path.chars().take(128).collect() }
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
}
