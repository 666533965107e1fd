//! Defaults and rules of small kinds: leases, priority and storage classes, volumes and claims, network policies, events
//! (`pkg/apis/*/v1/defaults.go`, `pkg/apis/*/validation`). What a real API server takes is never refused.

use serde_json::{Map, Value, json};

use crate::Cause;
use crate::object::{as_map, integer, list, map_in, maps_in, namespace, set_default, text};

/// Completes an object.
pub fn complete(group: &str, plural: &str, object: &mut Value) {
    let map = as_map(object);
    match (group, plural) {
        ("", "persistentvolumes") => volume(map_in(map, "spec")),
        ("", "persistentvolumeclaims") => set_default(map_in(map, "spec"), "volumeMode", "Filesystem"),
        ("scheduling.k8s.io", "priorityclasses") => {
            set_default(map, "preemptionPolicy", "PreemptLowerPriority");
        }
        ("storage.k8s.io", "storageclasses") => {
            set_default(map, "reclaimPolicy", "Delete");
            set_default(map, "volumeBindingMode", "Immediate");
        }
        ("networking.k8s.io", "networkpolicies") => network_policy(map_in(map, "spec")),
        _ => {}
    }
}

fn volume(spec: &mut Map<String, Value>) {
    set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
    set_default(spec, "volumeMode", "Filesystem");
    if let Some(Value::Object(path)) = spec.get_mut("hostPath") {
        set_default(path, "type", "");
    }
}

fn network_policy(spec: &mut Map<String, Value>) {
    let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    set_default(spec, "policyTypes", if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    for rules in ["ingress", "egress"] {
        for rule in maps_in(spec, rules) {
            maps_in(rule, "ports").for_each(|port| set_default(port, "protocol", "TCP"));
        }
    }
}

/// The highest value that a priority class may have which is not the system's.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// What is wrong with an object, its defaults filled in.
pub fn problems(group: &str, plural: &str, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    match (group, plural) {
        ("coordination.k8s.io", "leases") => lease(object, &mut causes),
        ("scheduling.k8s.io", "priorityclasses") => {
            let system = text(object, "/metadata/name").starts_with("system-");
            if !system && integer(object, "/value").is_some_and(|value| value > HIGHEST_PRIORITY) {
                let why = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
                causes.push(Cause::forbidden("value", &why));
            }
        }
        ("", "persistentvolumeclaims") => {
            if list(object, "/spec/accessModes").is_empty() {
                causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
            }
            if object.pointer("/spec/resources/requests/storage").is_none() {
                causes.push(Cause::required("spec.resources[storage]", ""));
            }
        }
        ("" | "events.k8s.io", "events") => event(object, &mut causes),
        _ => {}
    }
    causes
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    for (field, least, why) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        let value = &object["spec"][field];
        if value.as_i64().is_some_and(|number| number < least) {
            causes.push(Cause::invalid(format!("spec.{field}"), value, why));
        }
    }
}

fn event(object: &Value, causes: &mut Vec<Cause>) {
    let about = text(object, "/involvedObject/namespace");
    // Of what has no namespace is told in the default one.
    let fits = if about.is_empty() { true } else { about == namespace(object) };
    if !fits {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &json!(about),
            "does not match event.namespace",
        ));
    }
}

/// What an update must not have changed.
pub fn changes(group: &str, plural: &str, old: &Value, new: &Value) -> Vec<Cause> {
    let changed =
        |field: &str| old.get(field).is_some_and(|value| !value.is_null() && new.get(field) != Some(value));
    match (group, plural) {
        ("scheduling.k8s.io", "priorityclasses") => {
            let fixed = ["value", "preemptionPolicy"].into_iter().filter(|field| changed(field));
            fixed.map(|field| Cause::forbidden(field, "may not be changed in an update.")).collect()
        }
        ("storage.k8s.io", "storageclasses") if changed("provisioner") => {
            vec![Cause::invalid("provisioner", &new["provisioner"], "field is immutable")]
        }
        ("", "persistentvolumeclaims") => claim_changes(&old["spec"], &new["spec"]),
        ("", "nodes") => {
            let before = text(old, "/spec/providerID");
            if before.is_empty() || before == text(new, "/spec/providerID") {
                return vec![];
            }
            let why = "node updates may not change providerID except from \"\" to valid";
            vec![Cause::forbidden("spec.providerID", why)]
        }
        _ => vec![],
    }
}

/// A claim is bound once, and grows; nothing else of it changes.
fn claim_changes(old: &Value, new: &Value) -> Vec<Cause> {
    let rest = |spec: &Value| {
        let mut spec = spec.clone();
        let map = as_map(&mut spec);
        map.remove("volumeAttributesClassName");
        if text(old, "/volumeName").is_empty() {
            map.remove("volumeName");
            // One without a class may be given the default one while it waits.
            if old.get("storageClassName").is_none() {
                map.remove("storageClassName");
            }
        }
        if let Some(Value::Object(resources)) = map.get_mut("resources") {
            resources.remove("requests");
        }
        spec
    };
    if rest(old) == rest(new) {
        return vec![];
    }
    let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
        bound claims";
    vec![Cause::forbidden("spec", why)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_twice_change_nothing() {
        for (group, plural) in [
            ("", "persistentvolumes"),
            ("", "persistentvolumeclaims"),
            ("scheduling.k8s.io", "priorityclasses"),
            ("storage.k8s.io", "storageclasses"),
            ("networking.k8s.io", "networkpolicies"),
        ] {
            let mut once =
                json!({"spec": {"hostPath": {"path": "/x"}, "egress": [{"ports": [{"port": 1}]}]}});
            complete(group, plural, &mut once);
            let mut twice = once.clone();
            complete(group, plural, &mut twice);
            assert_eq!(once, twice, "{plural}");
        }
    }

    #[test]
    fn a_claim_is_bound_and_grows_and_nothing_else() {
        let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let mut bound = claim.clone();
        bound["volumeName"] = json!("v");
        bound["resources"]["requests"]["storage"] = json!("2Gi");
        assert!(claim_changes(&claim, &bound).is_empty());
        assert_eq!(claim_changes(&bound, &claim).len(), 1);
        let mut shared = claim.clone();
        shared["accessModes"] = json!(["ReadWriteMany"]);
        assert_eq!(claim_changes(&claim, &shared).len(), 1);
    }
}
