//! How long the pods of a node are left alone when it is not heard of.

use std::time::Duration;

use apimachinery::duration::go_seconds;
use serde_json::Value;

/// OpenYurt's switches on nodes; the first two are its older ones.
const AUTONOMY: &str = "node.beta.openyurt.io/autonomy";
const BINDING: &str = "apps.openyurt.io/binding";
const DURATION: &str = "node.openyurt.io/autonomy-duration";
/// KubeEdge's label on pods.
const OFFLINE: (&str, &str) = ("app-offline.kubeedge.io", "autonomy");

/// What is done with a pod on a node that is not heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// What Kubernetes does: the pod's own tolerations.
    Usual,
    /// It is evicted after so long.
    For(Duration),
    /// It stays.
    Forever,
}

/// What a node's annotations say.
pub(super) fn of_node(metadata: &Value) -> Patience {
    let text = |name: &str| metadata["annotations"][name].as_str();
    if text(AUTONOMY) == Some("true") || text(BINDING) == Some("true") {
        return Patience::Forever;
    }
    match text(DURATION).map(go_seconds) {
        None | Some(None) => Patience::Usual,
        Some(Some(seconds)) if seconds <= 0.0 => Patience::Forever,
        Some(Some(seconds)) => Patience::For(Duration::from_secs_f64(seconds.min(f64::from(u32::MAX)))),
    }
}

/// What counts for a pod on a node of this patience. What runs on every node, or is the node's own, is never moved.
pub(super) fn of_pod(pod: &Value, node: Patience) -> Patience {
    let metadata = &pod["metadata"];
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let is_everywhere = owners.clone().any(|owner| owner["kind"] == "DaemonSet");
    let is_static = metadata["annotations"]["kubernetes.io/config.mirror"].is_string();
    if is_everywhere || is_static {
        return Patience::Usual;
    }
    match metadata["labels"][OFFLINE.0] == OFFLINE.1 {
        true => Patience::Forever,
        false => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_say_how_long_by_the_annotations_of_openyurt() {
        let hours = |hours: u64| Patience::For(Duration::from_secs(hours * 3600));
        for (annotations, patience) in [
            (json!({}), Patience::Usual),
            (json!({AUTONOMY: "true"}), Patience::Forever),
            (json!({AUTONOMY: "false", BINDING: "true"}), Patience::Forever),
            (json!({AUTONOMY: "false", DURATION: "24h"}), hours(24)),
            (json!({AUTONOMY: "true", DURATION: "24h"}), Patience::Forever),
            (json!({DURATION: "1h30m"}), Patience::For(Duration::from_secs(5400))),
            (json!({DURATION: "0"}), Patience::Forever),
            (json!({DURATION: "0s"}), Patience::Forever),
            (json!({DURATION: "-1h"}), Patience::Forever),
            (json!({DURATION: "soon"}), Patience::Usual),
            (json!({DURATION: ""}), Patience::Usual),
            (json!({DURATION: "5"}), Patience::Usual),
        ] {
            assert_eq!(of_node(&json!({"annotations": annotations})), patience, "{annotations}");
        }
    }

    #[test]
    fn pods_of_every_node_and_of_files_have_no_patience_and_kubeedges_label_has_all() {
        let day = Patience::For(Duration::from_secs(86_400));
        let pod = |metadata: Value| of_pod(&json!({"metadata": metadata}), day);
        assert_eq!(pod(json!({})), day);
        assert_eq!(pod(json!({"ownerReferences": [{"kind": "DaemonSet"}]})), Patience::Usual);
        assert_eq!(pod(json!({"annotations": {"kubernetes.io/config.mirror": "x"}})), Patience::Usual);
        assert_eq!(pod(json!({"labels": {"app-offline.kubeedge.io": "autonomy"}})), Patience::Forever);
        assert_eq!(pod(json!({"labels": {"app-offline.kubeedge.io": "no"}})), day);
    }
}
