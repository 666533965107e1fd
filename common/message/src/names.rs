//! Names of nodes and objects.

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
    /// [`KeyError::BadNodeName`] if it breaks one.
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "{path:?} is neither <namespace>/<type>/<name> nor /<group>/<version>/<plural>/<namespace>/<name>"
    )]
    NotAnObjectPath { path: String },
    #[error("{name:?} cannot be the name of an object or namespace")]
    BadName { name: String },
    #[error("{name:?} is not a node name (lower-case letters, digits, '-' and '.', at most 253)")]
    BadNodeName { name: String },
}

/// Refuses what would not stay one segment of a URL's path: a name that a node made up must never lead a request to
/// another object than the one that was authorised. Wider than what Kubernetes allows for names of any kind.
///
/// # Errors
/// [`KeyError::BadName`] if the name is empty, `.` or `..`, or holds a character that has a meaning in URLs.
pub fn check_name(name: &str) -> Result<(), KeyError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~:@+=,".contains(c);
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(legal) {
        return Err(KeyError::BadName { name: name.chars().take(64).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_follow_the_dns_subdomain_rules() {
        assert!(NodeName::new("edge-1.site").is_ok());
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "../x"] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }
}
