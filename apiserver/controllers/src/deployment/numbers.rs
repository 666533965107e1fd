//! The numbers of a Deployment and its ReplicaSets: sizes, limits of a rollout, revisions (`pkg/controller/deployment/util`).

use apimachinery::object::{integer, text};
use serde_json::Value;

use crate::percent;

/// Where a Deployment and its ReplicaSets say which revision they are.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
pub(super) fn size(set: &Value) -> i64 {
    integer(set, "/spec/replicas").unwrap_or(1)
}

/// What the Deployment asks for.
pub(super) fn wanted(deployment: &Value) -> i64 {
    integer(deployment, "/spec/replicas").unwrap_or(1).max(0)
}

pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["annotations"][name].as_str().unwrap_or_default()
}

pub(super) fn revision(set: &Value) -> i64 {
    annotation(set, REVISION).parse().unwrap_or(0)
}

/// The size that the Deployment had when the set was last looked at.
pub(super) fn desired(set: &Value) -> Option<i64> {
    annotation(set, DESIRED).parse().ok()
}

/// The most pods there were to be when the set was last looked at.
pub(super) fn maximum(set: &Value) -> Option<i64> {
    annotation(set, MAXIMUM).parse().ok()
}

/// Pods that may be there beyond what is wanted.
pub(super) fn surge(deployment: &Value) -> i64 {
    limits(deployment).0
}

/// The surge, and how many may be unavailable. Both are 0 never, or a rollout would stand still.
pub(super) fn limits(deployment: &Value) -> (i64, i64) {
    let wanted = wanted(deployment);
    if text(deployment, "/spec/strategy/type") == "Recreate" {
        return (0, wanted);
    }
    let part = |field: &str, up: bool| {
        let given = &deployment["spec"]["strategy"]["rollingUpdate"][field];
        let usual = Value::from("25%");
        percent::of(if given.is_null() { &usual } else { given }, wanted, up)
    };
    match (part("maxSurge", true), part("maxUnavailable", false)) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(wanted)),
    }
}

pub(super) fn sum(sets: &[Value]) -> i64 {
    sets.iter().map(size).sum()
}

/// The size that a new set begins with.
pub(super) fn first_size(deployment: &Value, old: &[Value]) -> i64 {
    next_size(deployment, 0, sum(old))
}

pub(super) fn next_size(deployment: &Value, new: i64, old: i64) -> i64 {
    let wanted = wanted(deployment);
    if text(deployment, "/spec/strategy/type") == "Recreate" {
        return wanted;
    }
    let most = wanted + surge(deployment);
    match most - (new + old) {
        ..=0 => new,
        room => new + room.min(wanted - new),
    }
}
