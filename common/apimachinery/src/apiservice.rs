//! APIServices: who serves a version of a group (`k8s.io/kube-aggregator/pkg/apis/apiregistration`).

use serde_json::{Map, Value, json};

use crate::object::{integer, list, set_default, text};
use crate::{Cause, names};

/// Their group.
pub const GROUP: &str = "apiregistration.k8s.io";
/// The condition that says whether requests can be answered.
pub const AVAILABLE: &str = "Available";

/// The name of the APIService of a version; the core group is empty.
pub fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// Completes the spec.
pub(crate) fn complete(spec: &mut Map<String, Value>) {
    if let Some(Value::Object(service)) = spec.get_mut("service") {
        set_default(service, "port", 443);
    }
}

/// What is wrong with one.
pub(crate) fn problems(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let (group, version) = (text(spec, "/group"), text(spec, "/version"));
    let (own, wanted) = (text(object, "/metadata/name"), name(group, version));
    if own != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        causes.push(Cause::invalid("metadata.name", &json!(own), &why));
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        causes.push(Cause::required("spec.group", why));
    }
    let group_fault = names::subdomain(group).filter(|_| !group.is_empty());
    causes.extend(group_fault.map(|why| Cause::invalid("spec.group", &json!(group), &why)));
    causes.extend(names::label(version).map(|why| Cause::invalid("spec.version", &json!(version), &why)));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let value = integer(spec, &format!("/{field}")).unwrap_or(0);
        if value <= 0 || value > most {
            let why = format!("must be positive and less than {most}");
            causes.push(Cause::invalid(format!("spec.{field}"), &json!(value), &why));
        }
    }
    let (ca, skips) = (text(spec, "/caBundle"), spec["insecureSkipTLSVerify"] == true);
    let service = &spec["service"];
    if service.is_null() {
        if !ca.is_empty() {
            let why = "local APIServices may not have a caBundle";
            causes.push(Cause::invalid("spec.caBundle", &json!("<omitted>"), why));
        }
        if skips {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            causes.push(Cause::invalid("spec.insecureSkipTLSVerify", &json!(true), why));
        }
        return;
    }
    for field in ["namespace", "name"] {
        if text(service, &format!("/{field}")).is_empty() {
            causes.push(Cause::required(format!("spec.service.{field}"), ""));
        }
    }
    let port = integer(service, "/port").unwrap_or(0);
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid("spec.service.port", &json!(port), why));
    }
    if skips && !ca.is_empty() {
        let why = "may not be true if caBundle is present";
        causes.push(Cause::invalid("spec.insecureSkipTLSVerify", &json!(true), why));
    }
}

/// What is said of availability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    pub is_available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Availability {
    /// Of what this server serves itself.
    pub fn local() -> Availability {
        let message = "Local APIServices are always available".to_owned();
        Availability { is_available: true, reason: "Local", message }
    }
}

/// The status with what is said of availability. `now` is RFC 3339: the time since which it is so, if it was not so before.
#[must_use]
pub fn with_availability(status: &Value, said: &Availability, now: &str) -> Value {
    let state = if said.is_available { "True" } else { "False" };
    let mut conditions = list(status, "/conditions").to_vec();
    let before = conditions.iter().position(|one| one["type"] == AVAILABLE);
    let since = before.and_then(|at| conditions.get(at)).filter(|one| one["status"] == state);
    let since = since.map_or_else(|| json!(now), |one| one["lastTransitionTime"].clone());
    let condition = json!({"type": AVAILABLE, "status": state, "lastTransitionTime": since,
        "reason": said.reason, "message": said.message});
    match before.and_then(|at| conditions.get_mut(at)) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
    let mut made = if status.is_object() { status.clone() } else { json!({}) };
    made["conditions"] = json!(conditions);
    made
}

/// True if the status of one says that requests can be answered.
pub fn is_available(object: &Value) -> bool {
    let mut conditions = list(object, "/status/conditions").iter();
    conditions.any(|one| one["type"] == AVAILABLE && one["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_moves_only_when_it_changes() {
        let said = |is_available, reason| Availability { is_available, reason, message: String::new() };
        let first = with_availability(&Value::Null, &said(false, "MissingEndpoints"), "t1");
        let other = with_availability(&first, &said(false, "FailedDiscoveryCheck"), "t2");
        assert_eq!(other["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(other["conditions"][0]["reason"], "FailedDiscoveryCheck");
        let passed = with_availability(&other, &said(true, "Passed"), "t3");
        assert_eq!(
            (passed["conditions"].as_array().unwrap().len(), &passed["conditions"][0]["status"]),
            (1, &json!("True"))
        );
        assert_eq!(passed["conditions"][0]["lastTransitionTime"], "t3");
        assert!(is_available(&json!({"status": passed})) && !is_available(&json!({"status": other})));
    }
}
