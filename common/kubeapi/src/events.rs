//! Events have two faces, `v1` and `events.k8s.io/v1`, that differ in field names only. They are stored as `v1`.

use serde_json::Value;

/// Their second group.
pub const GROUP: &str = "events.k8s.io";

/// (name in v1, name in events.k8s.io/v1)
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// From the names of `events.k8s.io/v1` to those of `v1`.
pub fn to_stored(event: &mut Value) {
    for (core, new) in NAMES {
        rename(event, new, core);
    }
}

/// From the names of `v1` to those of `events.k8s.io/v1`.
pub fn from_stored(event: &mut Value) {
    for (core, new) in NAMES {
        rename(event, core, new);
    }
}

fn rename(event: &mut Value, from: &str, to: &str) {
    let Some(map) = event.as_object_mut() else { return };
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_event_survives_the_change_of_names() {
        let stored = json!({"involvedObject": {"name": "p"}, "message": "m", "count": 2, "reason": "r"});
        let mut event = stored.clone();
        super::from_stored(&mut event);
        assert_eq!(
            event,
            json!({"regarding": {"name": "p"}, "note": "m", "deprecatedCount": 2, "reason": "r"})
        );
        super::to_stored(&mut event);
        assert_eq!(event, stored);
    }
}
