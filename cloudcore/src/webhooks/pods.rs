//! Pods that are being made get the patience of their node at once. Pure.

use apimachinery::patch;
use serde_json::Value;

use crate::autonomy::Autonomy;

/// The JSON patch of a pod that is created; `None`: it stays as it is.
pub(super) fn patch(autonomy: &Autonomy, request: &Value) -> Option<Value> {
    let is_new =
        request["operation"] == "CREATE" && request["subResource"].as_str().is_none_or(str::is_empty);
    let pod = request.get("object").filter(|pod| is_new && pod["kind"] == "Pod")?;
    let mut after = pod.clone();
    patch::merge(&mut after, &autonomy.at_creation(pod)?);
    Some(patch::difference(pod, &after))
}

#[cfg(test)]
mod tests {
    use apimachinery::patch::{PatchKind, apply};
    use message::Json;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::Meta;

    const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

    fn autonomy() -> Autonomy {
        let autonomy = Autonomy::default();
        let meta = Meta { name: "n1".to_owned(), ..Meta::default() };
        let annotations = json!({"node.openyurt.io/autonomy-duration": "2h"});
        autonomy.saw_node(&meta, &Json::of(&json!({"metadata": {"name": "n1", "annotations": annotations}})));
        autonomy
    }

    fn asked(operation: &str, metadata: Value, mut spec: Value) -> Value {
        spec["tolerations"] = TAINTS
            .iter()
            .map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}))
            .collect();
        json!({"operation": operation, "object": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}})
    }

    /// Seconds of both tolerations after the patch.
    fn seconds(request: &Value) -> Option<Vec<Value>> {
        let patch = patch(&autonomy(), request)?;
        let pod = apply(PatchKind::Json, &request["object"], &patch, None).unwrap();
        let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
        Some(tolerations.iter().map(|one| one["tolerationSeconds"].clone()).collect())
    }

    #[test]
    fn a_pod_for_a_node_with_a_policy_or_with_kubeedges_label_gets_its_tolerations_at_creation() {
        let plain = || json!({"name": "p"});
        let hours = Some(vec![json!(7200); 2]);
        assert_eq!(seconds(&asked("CREATE", plain(), json!({"nodeName": "n1"}))), hours);
        let selector = json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}});
        assert_eq!(seconds(&asked("CREATE", plain(), selector)), hours);
        let labelled = json!({"labels": {"app-offline.kubeedge.io": "autonomy"}});
        assert_eq!(seconds(&asked("CREATE", labelled, json!({}))), Some(vec![Value::Null; 2]));
        for none in [
            asked("CREATE", plain(), json!({})),
            asked("CREATE", plain(), json!({"nodeName": "n2"})),
            asked("UPDATE", plain(), json!({"nodeName": "n1"})),
            asked("CREATE", json!({"ownerReferences": [{"kind": "DaemonSet"}]}), json!({"nodeName": "n1"})),
            json!({"operation": "CREATE", "object": null}),
        ] {
            assert_eq!(seconds(&none), None, "{none}");
        }
    }
}
