//! Which nodes a pod may be on: labels, affinity, taints (`k8s.io/component-helpers/scheduling/corev1`).

use apimachinery::object::{list, text};
use serde_json::Value;

/// True if a node has the labels of the pod's `nodeSelector` and one of the terms of its required node affinity.
pub fn selects(pod_spec: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let wanted = pod_spec["nodeSelector"].as_object().into_iter().flatten();
    let has_all = wanted.into_iter().all(|(name, value)| labels[name] == *value);
    let required = &pod_spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = list(required, "/nodeSelectorTerms");
    has_all && (required.is_null() || terms.iter().any(|term| matches_term(term, node)))
}

/// True if all that a term says holds for a node; one that says nothing holds for none.
pub fn matches_term(term: &Value, node: &Value) -> bool {
    let (labels, fields) = (list(term, "/matchExpressions"), list(term, "/matchFields"));
    let labelled = |one: &Value| holds(one, node["metadata"]["labels"][text(one, "/key")].as_str());
    // The only field there is.
    let named = |one: &Value| {
        let name = (text(one, "/key") == "metadata.name").then(|| text(node, "/metadata/name"));
        holds(one, name)
    };
    !(labels.is_empty() && fields.is_empty()) && labels.iter().all(labelled) && fields.iter().all(named)
}

fn holds(requirement: &Value, found: Option<&str>) -> bool {
    let values = || list(requirement, "/values").iter().filter_map(Value::as_str);
    let compared = |holds: fn(&i64, &i64) -> bool| {
        let found = found.and_then(|found| found.parse::<i64>().ok());
        let limit = values().next().and_then(|limit| limit.parse::<i64>().ok());
        found.zip(limit).is_some_and(|(found, limit)| holds(&found, &limit))
    };
    match text(requirement, "/operator") {
        "In" => found.is_some_and(|found| values().any(|value| value == found)),
        "NotIn" => found.is_none_or(|found| values().all(|value| value != found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

/// True if a toleration is for a taint.
pub fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let of = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (effect, key) = (of(toleration, "effect"), of(toleration, "key"));
    if !(effect.is_empty() || effect == of(taint, "effect")) || !(key.is_empty() || key == of(taint, "key")) {
        return false;
    }
    match of(toleration, "operator").as_str() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && of(toleration, "value") == of(taint, "value"),
        _ => false,
    }
}

/// The first taint of these effects that none of the tolerations is for.
pub fn untolerated<'a>(tolerations: &[Value], taints: &'a [Value], effects: &[&str]) -> Option<&'a Value> {
    let counted = |taint: &&Value| effects.contains(&text(taint, "/effect"));
    taints.iter().filter(counted).find(|taint| !tolerations.iter().any(|one| tolerates(one, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Value {
        json!({"metadata": {"name": "n1", "labels": {"zone": "a", "size": "5"}}})
    }

    #[test]
    fn a_pod_goes_where_its_selector_and_one_of_its_terms_hold() {
        let with = |terms: Value| {
            let required = json!({"nodeSelectorTerms": terms});
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
        };
        let term = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(selects(&json!({}), &node()));
        assert!(selects(&json!({"nodeSelector": {"zone": "a"}}), &node()));
        assert!(!selects(&json!({"nodeSelector": {"zone": "b"}}), &node()));
        assert!(selects(
            &with(json!([term("zone", "In", json!(["b"])), term("size", "Gt", json!(["4"]))])),
            &node()
        ));
        assert!(!selects(&with(json!([term("zone", "NotIn", json!(["a"]))])), &node()));
        assert!(selects(&with(json!([term("disk", "DoesNotExist", Value::Null)])), &node()));
        assert!(!selects(&with(json!([{}])), &node()), "an empty term holds for no node");
        assert!(!selects(&with(json!([])), &node()));
        let named = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]);
        assert!(selects(&with(named), &node()));
    }

    #[test]
    fn a_taint_is_tolerated_by_key_value_and_effect() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        for (toleration, wanted) in [
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k"}), false),
            (json!({"key": "k", "value": "v", "effect": "NoExecute"}), false),
            (json!({"key": "other", "operator": "Exists"}), false),
        ] {
            assert_eq!(tolerates(&toleration, &taint), wanted, "{toleration}");
        }
        let taints = [taint];
        assert!(untolerated(&[], &taints, &["NoExecute"]).is_none());
        assert!(untolerated(&[], &taints, &["NoSchedule"]).is_some());
    }
}
