//! When a Deployment is rolled out, by the rules of `kubectl rollout status`. Pure.

use serde_json::Value;

/// `Err` says what is missing, for people.
pub(super) fn progress(deployment: &Value) -> Result<(), String> {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Err("the Deployment has not been looked at by its controller".to_owned());
    }
    let (updated, available) = (number("/status/updatedReplicas"), number("/status/availableReplicas"));
    if updated < wanted {
        return Err(format!("{updated} of {wanted} pods are made"));
    }
    let old = number("/status/replicas") - updated;
    if old > 0 {
        return Err(format!("{old} pods of the former version are still there"));
    }
    if available < updated {
        return Err(format!("{available} of {updated} pods are available"));
    }
    Ok(())
}

/// Why pods do not start, as their containers say.
pub(super) fn trouble(pods: &[Value]) -> Option<String> {
    let mut waiting = pods.iter().flat_map(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        statuses.map(move |status| (name, &status["state"]["waiting"]))
    });
    let of_pod = waiting.find_map(|(name, waiting)| {
        let reason = waiting["reason"].as_str().filter(|reason| *reason != "ContainerCreating")?;
        Some(format!("pod {name}: {reason} {}", waiting["message"].as_str().unwrap_or_default()))
    });
    let unscheduled = || {
        pods.iter().find_map(|pod| {
            let mut conditions = pod["status"]["conditions"].as_array()?.iter();
            let condition =
                conditions.find(|one| one["type"] == "PodScheduled" && one["status"] == "False")?;
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            Some(format!("pod {name}: {}", condition["message"].as_str().unwrap_or_default()))
        })
    };
    of_pod.or_else(unscheduled).map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_is_rolled_out_when_all_pods_are_of_this_version_and_available() {
        let said = |observed: i64, all: i64, updated: i64, available: i64| {
            progress(&json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": observed, "replicas": all, "updatedReplicas": updated,
                "availableReplicas": available}}))
        };
        assert_eq!(said(2, 2, 2, 2), Ok(()));
        assert!(said(1, 2, 2, 2).is_err(), "that is the former version");
        assert!(said(2, 2, 1, 2).unwrap_err().contains("1 of 2 pods are made"));
        assert!(said(2, 3, 2, 2).unwrap_err().contains("former"));
        assert!(said(2, 2, 2, 1).unwrap_err().contains("1 of 2 pods are available"));
        assert!(progress(&json!({"metadata": {"generation": 1}})).is_err());
    }

    #[test]
    fn why_pods_do_not_start_is_told() {
        let waiting = |reason: &str| json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}}}]}});
        assert_eq!(trouble(&[waiting("ContainerCreating")]), None);
        assert_eq!(trouble(&[waiting("ErrImagePull")]).unwrap(), "pod p: ErrImagePull m");
        let pending = json!({"metadata": {"name": "q"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}});
        assert_eq!(trouble(&[pending]).unwrap(), "pod q: 0/1 nodes are available");
    }
}
