//! What a pod spec must have: the part of Kubernetes' pod validation (pkg/apis/core/validation) that keeps names and
//! paths where they belong and catches common mistakes. What a real API server takes is never refused.

mod containers;
mod handlers;
mod mounts;
mod paths;
mod ports;
#[cfg(test)]
mod tests;
mod volumes;

use serde_json::{Value, json};

use crate::object::{list, text};
use crate::{Cause, names};

/// Checks the pod spec found at `path`, with its defaults filled in.
pub fn problems(path: &str, spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if spec.is_null() {
        return vec![Cause::required(format!("{path}.containers"), "")];
    }
    if !spec.is_object() {
        return vec![Cause::required(path, "")];
    }
    let volumes = volumes::check(path, spec, &mut causes);
    if list(spec, "/containers").is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut seen = Vec::new();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        if spec.get(field).is_some_and(|value| !value.is_array() && !value.is_null()) {
            causes.push(Cause::type_invalid(format!("{path}.{field}"), &spec[field], "must be a list"));
        }
        for (at, container) in list(spec, &format!("/{field}")).iter().enumerate() {
            let at = format!("{path}.{field}[{at}]");
            name(&at, container, &mut seen, &mut causes);
            containers::check(&at, container, &volumes, &mut causes);
        }
    }
    ports::check_host(path, spec, &mut causes);
    let choices: [(&str, &[&str]); 2] = [
        ("restartPolicy", &["Always", "OnFailure", "Never"]),
        ("dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    ];
    for (field, allowed) in choices {
        choice(path, spec, field, allowed, &mut causes);
    }
    seconds(path, spec, "terminationGracePeriodSeconds", 0, &mut causes);
    seconds(path, spec, "activeDeadlineSeconds", 1, &mut causes);
    own_names(path, spec, &mut causes);
    causes
}

/// What is wrong with a name, if anything.
type Rule = fn(&str) -> Option<String>;

fn own_names(path: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let rules: [(&str, Rule); 4] = [
        ("hostname", names::label),
        ("subdomain", names::label),
        ("nodeName", names::subdomain),
        ("serviceAccountName", names::subdomain),
    ];
    for (field, rule) in rules {
        let value = text(spec, &format!("/{field}"));
        if let Some(why) = (!value.is_empty()).then(|| rule(value)).flatten() {
            causes.push(Cause::invalid(format!("{path}.{field}"), &json!(value), &why));
        }
    }
}

/// A DNS label that no other item has.
fn name(at: &str, item: &Value, seen: &mut Vec<String>, causes: &mut Vec<Cause>) {
    let name = text(item, "/name");
    let field = format!("{at}.name");
    if name.is_empty() {
        causes.push(Cause::required(field, ""));
    } else if let Some(why) = names::label(name) {
        causes.push(Cause::invalid(field, &json!(name), &why));
    } else if seen.iter().any(|other| other == name) {
        causes.push(Cause::duplicate(field, &json!(name)));
    }
    seen.push(name.to_owned());
}

/// One of some words, which has a default.
fn choice(at: &str, item: &Value, field: &str, allowed: &[&str], causes: &mut Vec<Cause>) {
    let value = text(item, &format!("/{field}"));
    if !allowed.contains(&value) {
        causes.push(Cause::unsupported(format!("{at}.{field}"), &json!(value), allowed));
    }
}

/// One of some words, or nothing.
fn optional_choice(at: &str, item: &Value, field: &str, allowed: &[&str], causes: &mut Vec<Cause>) {
    if is_given(item, field) {
        choice(at, item, field, allowed, causes);
    }
}

fn required(at: &str, item: &Value, field: &str, causes: &mut Vec<Cause>) {
    if text(item, &format!("/{field}")).is_empty() {
        causes.push(Cause::required(format!("{at}.{field}"), ""));
    }
}

/// A number of at least `least`, or nothing.
fn seconds(at: &str, item: &Value, field: &str, least: i64, causes: &mut Vec<Cause>) {
    let value = &item[field];
    if !value.is_null() && value.as_i64().is_none_or(|number| number < least) {
        let detail = format!("must be greater than or equal to {least}");
        causes.push(Cause::invalid(format!("{at}.{field}"), value, &detail));
    }
}

fn is_given(item: &Value, field: &str) -> bool {
    item.get(field).is_some_and(|value| !value.is_null())
}
