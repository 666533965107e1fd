//! Pods whose object cannot be read as one, as a template with a number where a text belongs makes them. An API server
//! would refuse them; one that does not must hear what is wrong, and be able to delete them.
//!
//! Such a pod is placed with what can be read, without containers, and has failed.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use message::{Json, ObjectKey};
use serde_json::Value;

use super::Pods;
use podmodel::spec::PodId;
use podmodel::stop_decision::StopDecision;

const REASON: &str = "InvalidPod";

/// What can be read of a pod; `None` without a name and a uid.
fn readable(object: &Json) -> Option<Pod> {
    let value: Value = object.parse().ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &value["metadata"];
    let time = |name: &str| serde_json::from_value(metadata[name].clone()).ok();
    let metadata = ObjectMeta {
        name: Some(text(&metadata["name"])?),
        namespace: text(&metadata["namespace"]),
        uid: Some(text(&metadata["uid"])?),
        creation_timestamp: time("creationTimestamp"),
        deletion_timestamp: time("deletionTimestamp"),
        deletion_grace_period_seconds: metadata["deletionGracePeriodSeconds"].as_i64(),
        resource_version: text(&metadata["resourceVersion"]),
        // Mirrors and their hashes; nothing else of a pod without containers is read.
        annotations: serde_json::from_value(metadata["annotations"].clone()).ok(),
        ..ObjectMeta::default()
    };
    let spec = PodSpec { node_name: text(&value["spec"]["nodeName"]), ..PodSpec::default() };
    let status = serde_json::from_value(value["status"].clone()).ok();
    Some(Pod { metadata, spec: Some(spec), status })
}

impl Pods {
    /// Places a pod that cannot be read: `error` says where. One that runs goes on as it was known, but for its deletion.
    pub(super) fn place_unreadable(&mut self, key: ObjectKey, object: &Json, error: &str) {
        let Some(mut pod) = readable(object) else {
            tracing::warn!(name = %key, error, "pod without a readable name and uid ignored");
            return;
        };
        let id = PodId::of(&pod);
        tracing::warn!(namespace = %id.namespace, name = %id.name, uid = %id.uid, error, "pod cannot be read");
        if self.workers.contains_key(&id.uid) {
            let Some(known) =
                self.context.base.board.get(&id.uid).and_then(|entry| entry.object.parse().ok())
            else {
                return;
            };
            let known: Pod = known;
            let ends = (pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds);
            pod = known;
            (pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds) = ends;
        }
        let decision = StopDecision::rejected(REASON, &format!("the pod object cannot be read: {error}"));
        match Json::encode(&pod) {
            Ok(object) => self.place_as(key, object, pod, Some(decision), true),
            Err(error) => tracing::warn!(name = %key, error = %error, "pod cannot be read and was ignored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_be_read_is_who_it_is_and_when_it_ends() {
        let object = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u-1", "labels": 7,
            "deletionTimestamp": "2026-11-21T00:00:00Z", "deletionGracePeriodSeconds": 30},
            "spec": {"nodeName": "e1", "containers": [{"name": "c", "args": [1]}]}, "status": {"phase": 3}});
        let pod = readable(&Json::encode(&object).unwrap()).unwrap();
        assert_eq!(PodId::of(&pod).uid, "u-1");
        assert!(pod.metadata.deletion_timestamp.is_some() && pod.status.is_none());
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("e1"));
        assert!(readable(&Json::encode(&json!({"metadata": {"name": "p"}})).unwrap()).is_none());
    }
}
