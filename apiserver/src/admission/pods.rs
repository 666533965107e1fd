//! Pods: first status, what an update may change, quality of service.

use apimachinery::object::{integer, list, text};
use apimachinery::{Cause, quantity};
use serde_json::{Map, Value, json};

/// Gives a new pod its first status and the tolerations every pod gets.
pub(super) fn start(pod: &mut Value) {
    let class = qos(&pod["spec"]);
    pod["status"] = json!({ "phase": "Pending", "qosClass": class });
    if !list(pod, "/spec/schedulingGates").is_empty() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": null, "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    tolerate(pod);
}

/// Every pod stays a while on a node that is not ready or out of reach.
pub(super) fn tolerate(pod: &mut Value) {
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if let Value::Array(tolerations) = tolerations {
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            if !tolerations.iter().any(|one| tolerates(one, key)) {
                tolerations.push(
                    json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }),
                );
            }
        }
    }
}

fn tolerates(toleration: &Value, key: &str) -> bool {
    let (own, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    let everything = own.is_empty() && text(toleration, "/operator") == "Exists";
    (everything || own == key) && matches!(effect, "" | "NoExecute")
}

/// Guaranteed, Burstable or BestEffort, from the cpu and memory of all containers.
fn qos(spec: &Value) -> &'static str {
    let amounts = |container: &Value, kind: &str| -> Map<String, Value> {
        let all = container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object).cloned();
        let counted = all.unwrap_or_default().into_iter();
        counted
            .filter(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && milli(amount) != Some(0))
            .collect()
    };
    let containers = list(spec, "/containers").iter().chain(list(spec, "/initContainers"));
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let (limits, mut requests) = (amounts(container, "limits"), amounts(container, "requests"));
        any |= !limits.is_empty() || !requests.is_empty();
        for (name, amount) in &limits {
            requests.entry(name.clone()).or_insert_with(|| amount.clone());
        }
        let equal = |name: &str| {
            let pair = (limits.get(name).and_then(milli), requests.get(name).and_then(milli));
            matches!(pair, (Some(limit), Some(request)) if limit == request)
        };
        guaranteed &= equal("cpu") && equal("memory");
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn milli(amount: &Value) -> Option<i128> {
    match amount {
        Value::String(text) => quantity::milli(text),
        other => quantity::milli(&other.to_string()),
    }
}

/// Puts back fields that an update may leave out.
pub(super) fn keep(old: &Value, new: &mut Value) {
    for field in ["serviceAccountName", "serviceAccount", "nodeName"] {
        if let (None, Some(value), true) =
            (new["spec"].get(field), old["spec"].get(field), new["spec"].is_object())
        {
            new["spec"][field] = value.clone();
        }
    }
}

/// The spec is immutable but for images, tolerations (added to), activeDeadlineSeconds and a shorter grace period.
pub(super) fn changes(old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let after: Vec<Value> = list(new, "/spec/tolerations").iter().map(without_seconds).collect();
    if !list(old, "/spec/tolerations").iter().all(|one| after.contains(&without_seconds(one))) {
        causes.push(Cause::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    let deadline = |pod: &Value| integer(pod, "/spec/activeDeadlineSeconds");
    if let Some(before) = deadline(old)
        && deadline(new).is_none_or(|now| now > before)
    {
        let (field, why) = ("spec.activeDeadlineSeconds", "must be less than or equal to previous value");
        causes.push(Cause::invalid(field, &new["spec"]["activeDeadlineSeconds"], why));
    }
    let gates = list(old, "/spec/schedulingGates");
    let added: Vec<&Value> =
        list(new, "/spec/schedulingGates").iter().filter(|gate| !gates.contains(gate)).collect();
    if !added.is_empty() {
        let why = format!("only deletion is allowed, but found new scheduling gates {}", json!(added));
        causes.push(Cause::forbidden("spec.schedulingGates", &why));
    }
    if mutable_removed(&old["spec"]) != mutable_removed(&new["spec"]) {
        causes.push(Cause::forbidden("spec", FIXED));
    }
    causes
}

const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Ephemeral containers come through their subresource alone, and stay as they are.
pub(super) fn ephemeral(subresource: &str, old: &Value, new: &Value) -> Vec<Cause> {
    let (before, now) = (list(old, "/spec/ephemeralContainers"), list(new, "/spec/ephemeralContainers"));
    if subresource != "ephemeralcontainers" {
        return if before == now { vec![] } else { vec![Cause::forbidden("spec", FIXED)] };
    }
    let mut causes = Vec::new();
    for container in before {
        let name = text(container, "/name");
        let why = match now.iter().find(|one| text(one, "/name") == name) {
            Some(same) if same == container => continue,
            Some(_) => "may not be changed",
            None => "may not be removed",
        };
        let why = format!("existing ephemeral containers {name:?} {why}\n");
        causes.push(Cause::forbidden("spec.ephemeralContainers", &why));
    }
    causes
}

/// How long a taint is tolerated may change.
fn without_seconds(toleration: &Value) -> Value {
    let mut toleration = toleration.clone();
    if let Some(fields) = toleration.as_object_mut() {
        fields.remove("tolerationSeconds");
    }
    toleration
}

fn mutable_removed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(spec) = spec.as_object_mut() {
        for field in ["tolerations", "activeDeadlineSeconds", "ephemeralContainers", "schedulingGates"] {
            spec.remove(field);
        }
        for containers in ["containers", "initContainers"] {
            for container in apimachinery::object::maps_in(spec, containers) {
                container.remove("image");
            }
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let spec = |resources: Value| json!({ "containers": [{ "resources": resources }] });
        assert_eq!(qos(&spec(json!({}))), "BestEffort");
        assert_eq!(qos(&spec(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(qos(&spec(json!({"limits": {"cpu": "1", "memory": "1Gi"}}))), "Guaranteed");
        assert_eq!(
            qos(&spec(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}))),
            "Burstable"
        );
    }

    #[test]
    fn only_images_and_a_few_fields_may_change() {
        let pod = |image: &str, host: bool| json!({"spec": {"hostNetwork": host, "containers": [{"name": "a", "image": image}]}});
        assert!(changes(&pod("1", false), &pod("2", false)).is_empty());
        assert_eq!(changes(&pod("1", false), &pod("1", true)).len(), 1);
    }

    #[test]
    fn tolerations_are_added_to_and_their_seconds_change() {
        let pod = |tolerations: Value| json!({"spec": {"tolerations": tolerations}});
        let with = |key: &str, seconds: Value| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let before = pod(json!([with("a", json!(300))]));
        let for_ever = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        for allowed in [
            json!([with("a", json!(1))]),
            json!([for_ever]),
            json!([with("b", json!(1)), with("a", json!(300))]),
        ] {
            assert!(changes(&before, &pod(allowed.clone())).is_empty(), "{allowed}");
        }
        for refused in [
            json!([]),
            json!([with("b", json!(300))]),
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]),
        ] {
            assert_eq!(changes(&before, &pod(refused.clone())).len(), 1, "{refused}");
        }
    }
}
