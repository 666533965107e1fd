//! Times in objects.

use std::time::Duration;

use apimachinery::object::text;
use jiff::Timestamp;
use serde_json::Value;

/// The time at a JSON pointer.
pub fn at(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

/// The time from `from` to `to`; zero if it is over.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// `seconds` after `from`.
pub fn after(from: Timestamp, seconds: i64) -> Timestamp {
    from.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// The earlier of two waits.
pub fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
