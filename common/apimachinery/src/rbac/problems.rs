//! What roles and bindings must be (`pkg/apis/rbac/validation`).

use serde_json::{Map, Value, json};

use super::policy::Kind;
use super::{GROUP, Rule};
use crate::Cause;
use crate::object::{as_map, list, maps_in, text};

const GROUPS: [&str; 1] = [GROUP];
const ROLES: [&str; 2] = ["Role", "ClusterRole"];

/// Completes a binding: roles, users and groups are of this group (`pkg/apis/rbac/v1/defaults.go`).
pub fn complete(plural: &str, object: &mut Value) {
    if !matches!(plural, "rolebindings" | "clusterrolebindings") {
        return;
    }
    let map = as_map(object);
    if let Some(Value::Object(role)) = map.get_mut("roleRef") {
        of_group(role);
    }
    for subject in maps_in(map, "subjects") {
        if subject.get("kind").is_some_and(|kind| kind == "User" || kind == "Group") {
            of_group(subject);
        }
    }
}

fn of_group(map: &mut Map<String, Value>) {
    if map.get("apiGroup").and_then(Value::as_str).unwrap_or_default().is_empty() {
        map.insert("apiGroup".to_owned(), json!(GROUP));
    }
}

/// What is wrong with a role or binding.
pub fn problems(kind: Kind, value: &Value) -> Vec<Cause> {
    match kind.is_binding() {
        true => binding(kind, value),
        false => list(value, "/rules").iter().enumerate().flat_map(|(at, one)| rule(kind, at, one)).collect(),
    }
}

fn rule(kind: Kind, at: usize, value: &Value) -> Vec<Cause> {
    let (rule, field) = (Rule::read(value), |name: &str| format!("rules[{at}].{name}"));
    let mut causes = Vec::new();
    if rule.verbs.is_empty() {
        causes.push(Cause::required(field("verbs"), "verbs must contain at least one value"));
    }
    if !rule.paths.is_empty() {
        if kind == Kind::Role {
            let why = "namespaced rules cannot apply to non-resource URLs";
            causes.push(Cause::invalid(field("nonResourceURLs"), &json!(rule.paths), why));
        }
        if !(rule.groups.is_empty() && rule.resources.is_empty() && rule.names.is_empty()) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            causes.push(Cause::invalid(field("nonResourceURLs"), &json!(rule.paths), why));
        }
        return causes;
    }
    if rule.groups.is_empty() {
        let why = "resource rules must supply at least one api group";
        causes.push(Cause::required(field("apiGroups"), why));
    }
    if rule.resources.is_empty() {
        let why = "resource rules must supply at least one resource";
        causes.push(Cause::required(field("resources"), why));
    }
    causes
}

fn binding(kind: Kind, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (group, of) = (text(value, "/roleRef/apiGroup"), text(value, "/roleRef/kind"));
    if group != GROUP {
        causes.push(Cause::unsupported("roleRef.apiGroup", &json!(group), &GROUPS));
    }
    let kinds = if kind == Kind::RoleBinding { &ROLES[..] } else { &ROLES[1..] };
    if !kinds.contains(&of) {
        causes.push(Cause::unsupported("roleRef.kind", &json!(of), kinds));
    }
    if text(value, "/roleRef/name").is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    }
    for (at, subject) in list(value, "/subjects").iter().enumerate() {
        let field = |name: &str| format!("subjects[{at}].{name}");
        if text(subject, "/name").is_empty() {
            causes.push(Cause::required(field("name"), ""));
        }
        let group = text(subject, "/apiGroup");
        match text(subject, "/kind") {
            "ServiceAccount" => {
                if !group.is_empty() {
                    causes.push(Cause::unsupported(field("apiGroup"), &json!(group), &[""]));
                }
                if kind == Kind::ClusterRoleBinding && text(subject, "/namespace").is_empty() {
                    causes.push(Cause::required(field("namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    causes.push(Cause::unsupported(field("apiGroup"), &json!(group), &GROUPS));
                }
            }
            other => {
                let known = ["ServiceAccount", "User", "Group"];
                causes.push(Cause::unsupported(field("kind"), &json!(other), &known));
            }
        }
    }
    causes
}

/// A binding keeps the role that it was made for.
pub fn roles_changed(old: &Value, new: &Value) -> Vec<Cause> {
    match old["roleRef"] == new["roleRef"] {
        true => vec![],
        false => vec![Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef")],
    }
}
