//! Conditions of Deployments, which carry the time of their last update beside that of their last transition.

use apimachinery::object::{as_map, set_default};
use serde_json::{Value, json};

pub(super) fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

pub(super) fn remove(status: &mut Value, kind: &str) {
    if let Some(all) = status["conditions"].as_array_mut() {
        all.retain(|condition| condition["type"] != kind);
    }
}

/// Sets a condition unless it says this already, apart from its message.
pub(super) fn set(status: &mut Value, kind: &str, what: (&str, &str, &str), now: &str) {
    let old = find(status, kind);
    if old.is_some_and(|old| old["status"] == what.0 && old["reason"] == what.1) {
        return;
    }
    renew(status, kind, what, now);
}

/// Sets a condition, and the time of its update, even if it says this already.
pub(super) fn renew(status: &mut Value, kind: &str, (value, reason, message): (&str, &str, &str), now: &str) {
    let old = find(status, kind).filter(|old| old["status"] == value);
    let since = old.map_or(json!(now), |old| old["lastTransitionTime"].clone());
    remove(status, kind);
    let condition = json!({"type": kind, "status": value, "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": since});
    set_default(as_map(status), "conditions", json!([]));
    if let Some(all) = status["conditions"].as_array_mut() {
        all.push(condition);
    }
}
