//! The status of a Deployment, as `kubectl rollout status` reads it (`pkg/controller/deployment/progress.go`, `sync.go`).

use apimachinery::object::{self, integer, list};
use serde_json::{Value, json};

use super::Round;
use super::conditions::{find, remove, renew, set};
use super::numbers::{limits, size, wanted};
use crate::time;

/// What `progressDeadlineSeconds` is for "none".
const NO_DEADLINE: i64 = i32::MAX as i64;

fn count(set: &Value, field: &str) -> i64 {
    set["status"][field].as_i64().unwrap_or(0)
}

fn number(status: &Value, field: &str) -> i64 {
    status[field].as_i64().unwrap_or(0)
}

/// The numbers, and whether enough pods are available.
fn numbers(round: &Round<'_>, now: &str) -> Value {
    let deployment = round.deployment;
    let sum = |field: &str| round.all().map(|set| count(set, field)).sum::<i64>();
    let available = sum("availableReplicas");
    let unavailable = (round.all().map(size).sum::<i64>() - available).max(0);
    let mut status = json!({"observedGeneration": integer(deployment, "/metadata/generation").unwrap_or(0)});
    for (field, value) in [
        ("replicas", sum("replicas")),
        ("updatedReplicas", round.new.as_ref().map_or(0, |new| count(new, "replicas"))),
        ("readyReplicas", sum("readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", unavailable),
        ("collisionCount", integer(deployment, "/status/collisionCount").unwrap_or(0)),
    ] {
        if value != 0 {
            status[field] = json!(value);
        }
    }
    status["conditions"] = json!(list(deployment, "/status/conditions"));
    let is_enough = available >= wanted(deployment) - limits(deployment).1;
    let what = match is_enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    set(&mut status, "Available", what, now);
    status
}

fn deadline(deployment: &Value) -> Option<i64> {
    integer(deployment, "/spec/progressDeadlineSeconds").filter(|seconds| *seconds < NO_DEADLINE)
}

/// While nothing is rolled out: paused, or given another size.
pub(super) fn plain(round: &mut Round<'_>) {
    let now = daemon::clock::rfc3339(round.now);
    let mut status = numbers(round, &now);
    if deadline(round.deployment).is_some() && !object::deleting(round.deployment) {
        pause(round.deployment, &mut status, &now);
    }
    round.decision.status = status;
}

/// Says that a Deployment was paused, or goes on: its deadline is not running meanwhile.
fn pause(deployment: &Value, status: &mut Value, now: &str) {
    let reason =
        find(status, "Progressing").map(|condition| condition["reason"].as_str().unwrap_or_default());
    match (deployment["spec"]["paused"] == true, reason) {
        (_, Some("ProgressDeadlineExceeded")) => {}
        (true, reason) if reason != Some("DeploymentPaused") => {
            set(status, "Progressing", ("Unknown", "DeploymentPaused", "Deployment is paused"), now);
        }
        (false, Some("DeploymentPaused")) => {
            set(status, "Progressing", ("Unknown", "DeploymentResumed", "Deployment is resumed"), now);
        }
        _ => {}
    }
}

/// While something is rolled out. `known`: the new set was there before this round.
pub(super) fn rollout(round: &mut Round<'_>, known: bool) {
    let now = daemon::clock::rfc3339(round.now);
    let deployment = round.deployment;
    let mut status = numbers(round, &now);
    let name = round.new.as_ref().map(|new| object::name(new).to_owned()).unwrap_or_default();
    match deadline(deployment) {
        None => remove(&mut status, "Progressing"),
        Some(seconds) => {
            pause(deployment, &mut status, &now);
            found(round, &mut status, (known, &name), &now);
            progress(round, &mut status, (seconds, &name), &now);
        }
    }
    failure(round, &mut status);
    round.decision.status = status;
}

fn found(round: &Round<'_>, status: &mut Value, (known, name): (bool, &str), now: &str) {
    if round.decision.create.is_some() {
        let message = format!("Created new replica set {name:?}");
        return set(status, "Progressing", ("True", "NewReplicaSetCreated", &message), now);
    }
    if known && find(status, "Progressing").is_none() {
        let message = format!("Found new replica set {name:?}");
        set(status, "Progressing", ("True", "FoundNewReplicaSet", &message), now);
    }
}

fn progress(round: &mut Round<'_>, status: &mut Value, (seconds, name): (i64, &str), now: &str) {
    let deployment = round.deployment;
    let reason =
        |status: &Value| find(status, "Progressing").map(|found| found["reason"].clone()).unwrap_or_default();
    let is_over = number(status, "replicas") == number(status, "updatedReplicas");
    if is_over && reason(status) == "NewReplicaSetAvailable" && round.decision.create.is_none() {
        return;
    }
    if is_complete(deployment, status) {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        return set(status, "Progressing", ("True", "NewReplicaSetAvailable", &message), now);
    }
    if has_moved(&deployment["status"], status) {
        let message = format!("ReplicaSet {name:?} is progressing.");
        renew(status, "Progressing", ("True", "ReplicaSetUpdated", &message), now);
    }
    let since = find(status, "Progressing").and_then(|condition| time::at(condition, "/lastUpdateTime"));
    let known = reason(status);
    let (Some(since), false) =
        (since, known == "NewReplicaSetAvailable" || known == "ProgressDeadlineExceeded")
    else {
        return;
    };
    let ends = time::after(since, seconds);
    if ends <= round.now {
        let message = format!("ReplicaSet {name:?} has timed out progressing.");
        return set(status, "Progressing", ("False", "ProgressDeadlineExceeded", &message), now);
    }
    // One second later, as times of conditions have whole ones.
    round.decision.again = Some(time::between(round.now, ends) + std::time::Duration::from_secs(1));
}

/// True once all pods are of the new template and available, and no others are left.
pub(super) fn is_complete(deployment: &Value, status: &Value) -> bool {
    let wanted = wanted(deployment);
    ["updatedReplicas", "replicas", "availableReplicas"].iter().all(|field| number(status, field) == wanted)
        && number(status, "observedGeneration") >= integer(deployment, "/metadata/generation").unwrap_or(0)
}

fn has_moved(old: &Value, new: &Value) -> bool {
    let more = |field: &str| number(new, field) > number(old, field);
    let others = |status: &Value| number(status, "replicas") - number(status, "updatedReplicas");
    more("updatedReplicas") || more("readyReplicas") || more("availableReplicas") || others(new) < others(old)
}

/// What keeps a set from making pods is shown here too.
fn failure(round: &Round<'_>, status: &mut Value) {
    let failing = round.new.iter().chain(&round.old);
    let condition = failing.flat_map(|set| list(set, "/status/conditions"));
    let found = condition.into_iter().find(|condition| condition["type"] == "ReplicaFailure").cloned();
    match found {
        None => remove(status, "ReplicaFailure"),
        Some(found) => {
            let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
            let now = daemon::clock::rfc3339(round.now);
            set(status, "ReplicaFailure", (&text("status"), &text("reason"), &text("message")), &now);
        }
    }
}
