//! The list `status.conditions` of an object.

use apimachinery::object::list;
use serde_json::{Value, json};

/// The condition of a type.
pub fn find<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| condition["type"] == kind)
}

/// True if the condition of a type says `True`.
pub fn is_true(object: &Value, kind: &str) -> bool {
    find(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Sets a condition in a list: `lastTransitionTime` moves only when its status does. True if anything changed.
pub fn set(
    conditions: &mut Vec<Value>,
    kind: &str,
    (status, reason, message): (&str, &str, &str),
    now: &str,
) -> bool {
    let old = conditions.iter().position(|condition| condition["type"] == kind);
    let mut new = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    match old {
        None => conditions.push(new),
        Some(at) => {
            let old = &conditions[at];
            if old["status"] == status && old["reason"] == reason && old["message"] == message {
                return false;
            }
            if old["status"] == status {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            conditions[at] = new;
        }
    }
    true
}
