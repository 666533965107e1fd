//! JSON payloads of the device topics (docs/protocol/devices.md 4.4). Pure.

use std::collections::BTreeMap;

use message::MessageId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::twin::{PropertyUpdate, TwinRefusal, bad_request};

/// A twin update or get request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TwinRequest {
    pub event_id: String,
    pub twin: Option<BTreeMap<String, Option<PropertyUpdate>>>,
}

/// A device state request. KubeEdge's own DMI server writes `State`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StateRequest {
    #[serde(alias = "State")]
    pub state: String,
}

/// Reads a request; the event id is kept even when the rest is refused.
pub(super) fn read_twin_request(payload: &[u8]) -> (String, Result<TwinRequest, TwinRefusal>) {
    let refused = || bad_request("unmarshal update request body failed, Please check the request");
    if !payload.trim_ascii_start().starts_with(b"{") {
        return (String::new(), Err(refused()));
    }
    if let Ok(request) = serde_json::from_slice::<TwinRequest>(payload) {
        return (request.event_id.clone(), Ok(request));
    }
    // As a tree it may be readable all the same: of a key that is there twice, the last counts.
    let Ok(value) = serde_json::from_slice::<Value>(payload) else { return (String::new(), Err(refused())) };
    let event_id = value["event_id"].as_str().unwrap_or_default().to_owned();
    (event_id, serde_json::from_value(value).map_err(|_| refused()))
}

pub(super) fn twins(event_id: &str, now: i64, twin: Map<String, Value>) -> String {
    json!({"event_id": event_id, "timestamp": now, "twin": twin}).to_string()
}

pub(super) fn refusal(event_id: &str, now: i64, refusal: &TwinRefusal) -> String {
    json!({"event_id": event_id, "timestamp": now, "code": refusal.code, "reason": refusal.reason})
        .to_string()
}

pub(super) fn delta(now: i64, twin: Map<String, Value>, delta: Map<String, Value>) -> String {
    json!({"event_id": MessageId::random().0, "timestamp": now, "twin": twin, "delta": delta}).to_string()
}

/// The state echo, and the report to the cloud: same form.
pub(super) fn state(now: i64, name: &str, state: &str, last_online: &str) -> Value {
    json!({
        "event_id": MessageId::random().0,
        "timestamp": now,
        "device": {"name": name, "state": state, "lastOnlineTime": last_online},
    })
}

/// `id` is `<namespace>/<name>`.
pub(super) fn membership_change(now: i64, id: &str, name: &str, joined: bool) -> String {
    let entry = json!([{"id": id, "name": name}]);
    let (added, removed) = if joined { (entry, Value::Null) } else { (Value::Null, entry) };
    json!({
        "event_id": MessageId::random().0, "timestamp": now, "added_devices": added, "removed_devices": removed,
    })
    .to_string()
}

/// States a device may have, as KubeEdge accepts them, case-insensitively.
pub(super) fn is_known_state(state: &str) -> bool {
    ["online", "offline", "ok", "unknown", "unhealthy"].iter().any(|known| known.eq_ignore_ascii_case(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_request_is_refused_with_the_event_id_it_gave() {
        let (id, request) = read_twin_request(br#"{"event_id":"e5","twin":7}"#);
        assert_eq!((id.as_str(), request.unwrap_err().code), ("e5", 400));
        for noise in [&b""[..], b"[]", b"{", b"\xff"] {
            assert!(read_twin_request(noise).1.is_err());
        }
        let (_, request) = read_twin_request(br#"{"twin":{"a":null}}"#);
        assert!(request.unwrap().twin.unwrap()["a"].is_none());
        let (id, request) = read_twin_request(br#" {"event_id":"e1","event_id":"e2","twin":{}}"#);
        assert_eq!((id.as_str(), request.is_ok()), ("e2", true));
    }
}
