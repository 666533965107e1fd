//! Which requests a webhook is asked about (`apiserver/pkg/admission/plugin/webhook/predicates/rules`).

use serde_json::Value;

use crate::object::{list, text};

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// `exec`, `attach`, `portforward` and `proxy`.
    Connect,
}

impl Operation {
    pub const NAMES: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "CONNECT"];

    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// What rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub operation: Operation,
    /// Empty for the core group.
    pub group: &'a str,
    pub version: &'a str,
    /// Lower-case plural.
    pub resource: &'a str,
    /// Empty: the object itself.
    pub subresource: &'a str,
    /// Empty: it is not drawn yet.
    pub name: &'a str,
    /// True for an object of a namespace; the Namespace itself is one of the cluster.
    pub namespaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

/// An entry of `rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    /// Of policies only; none: any.
    names: Vec<String>,
    scope: Scope,
}

impl Rule {
    pub(super) fn read(rule: &Value) -> Rule {
        let texts = |pointer: &str| -> Vec<String> {
            list(rule, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            operations: texts("/operations"),
            groups: texts("/apiGroups"),
            versions: texts("/apiVersions"),
            resources: texts("/resources"),
            names: texts("/resourceNames"),
            scope: match text(rule, "/scope") {
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                _ => Scope::Any,
            },
        }
    }

    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let has = |words: &[String], wanted: &str| words.iter().any(|word| word == "*" || word == wanted);
        has(&self.operations, asked.operation.as_str())
            && has(&self.groups, asked.group)
            && has(&self.versions, asked.version)
            && self.resources.iter().any(|resource| is_of(resource, asked))
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
            && match self.scope {
                Scope::Any => true,
                Scope::Cluster => !asked.namespaced,
                Scope::Namespaced => asked.namespaced,
            }
    }
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/scale`, `*/*`. A `*` after the slash is also the object itself.
fn is_of(resource: &str, asked: &Asked<'_>) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    (resource == "*" || resource == asked.resource)
        && (subresource == "*" || subresource == asked.subresource)
}
