//! What controllers ask of pods, and how they make one (`pkg/controller/controller_utils.go`, `pkg/api/v1/pod/util.go`).

use std::time::Duration;

use apimachinery::object::{self, integer, list, text};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::Kind;
use crate::{conditions, ownership, time};

/// True for a pod that runs or may still: not ended, and not being deleted.
pub fn is_active(pod: &Value) -> bool {
    !is_finished(pod) && !object::deleting(pod)
}

pub fn is_finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

pub fn is_ready(pod: &Value) -> bool {
    conditions::is_true(pod, "Ready")
}

/// `None`: not ready; else how long it takes until it counts as available.
pub fn until_available(pod: &Value, min_ready_seconds: i64, now: Timestamp) -> Option<Duration> {
    let ready = conditions::find(pod, "Ready").filter(|ready| ready["status"] == "True")?;
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let since = time::at(ready, "/lastTransitionTime")?;
    Some(time::between(now, time::after(since, min_ready_seconds)))
}

pub fn is_available(pod: &Value, min_ready_seconds: i64, now: Timestamp) -> bool {
    until_available(pod, min_ready_seconds, now) == Some(Duration::ZERO)
}

/// The shortest time until one of these pods becomes available.
pub fn next_available<'a>(
    pods: impl Iterator<Item = &'a Value>,
    min_ready: i64,
    now: Timestamp,
) -> Option<Duration> {
    pods.filter_map(|pod| until_available(pod, min_ready, now)).filter(|wait| !wait.is_zero()).min()
}

pub fn node(pod: &Value) -> &str {
    text(pod, "/spec/nodeName")
}

/// A pod of a template, controlled by `owner`, with a generated name.
pub fn from_template(kind: Kind, owner: &Value, template: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field).filter(|value| !value.is_null()) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("namespace".to_owned(), json!(object::namespace(owner)));
    metadata.insert("generateName".to_owned(), json!(format!("{}-", object::name(owner))));
    metadata.insert("ownerReferences".to_owned(), json!([ownership::reference(kind, owner)]));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// The most restarts of any container.
pub fn restarts(pod: &Value) -> i64 {
    let all = list(pod, "/status/containerStatuses").iter();
    all.filter_map(|status| integer(status, "/restartCount")).max().unwrap_or(0)
}

/// Sets a label of an object or template.
pub fn label(object: &mut Value, name: &str, value: &str) {
    let metadata = object::metadata(object);
    object::map_in(metadata, "labels").insert(name.to_owned(), json!(value));
}
