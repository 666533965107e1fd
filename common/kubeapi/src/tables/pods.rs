//! Pods: STATUS is computed from the containers, as kubectl's users know it.

use apimachinery::object::{deleting, integer, list, text};
use serde_json::{Value, json};

use super::{Column, age, or_none, own_name, since};

pub(super) fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::name(),
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        Column::text("Age"),
    ];
    columns.extend(["IP", "Node", "Nominated Node", "Readiness Gates"].map(Column::wide));
    columns
}

/// Why a container is not running, if it says.
fn reason(status: &Value) -> Option<String> {
    let waiting = text(status, "/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let ended = status.pointer("/state/terminated")?;
    let reason = text(ended, "/reason");
    Some(match (reason.is_empty(), integer(ended, "/signal").filter(|signal| *signal != 0)) {
        (false, _) => reason.to_owned(),
        (true, Some(signal)) => format!("Signal:{signal}"),
        (true, None) => format!("ExitCode:{}", integer(ended, "/exitCode").unwrap_or(0)),
    })
}

fn restartable(pod: &Value, name: &str) -> bool {
    let declared =
        list(pod, "/spec/initContainers").iter().find(|container| text(container, "/name") == name);
    declared.is_some_and(|container| text(container, "/restartPolicy") == "Always")
}

/// `Init:...`, while init containers keep the pod from starting.
fn initialising(pod: &Value) -> Option<String> {
    let total = list(pod, "/spec/initContainers").len();
    for (at, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        let ended = status.pointer("/state/terminated");
        if ended.is_some_and(|ended| ended["exitCode"] == 0) {
            continue;
        }
        if restartable(pod, text(status, "/name")) && status["started"] == true {
            continue;
        }
        return Some(match reason(status) {
            Some(reason) if ended.is_some() => format!("Init:{reason}"),
            Some(reason) if !reason.is_empty() && reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{at}/{total}"),
        });
    }
    None
}

fn status(pod: &Value) -> String {
    let phase = text(pod, "/status/phase");
    let why = text(pod, "/status/reason");
    let mut status = if why.is_empty() { phase.to_owned() } else { why.to_owned() };
    if let Some(initialising) = initialising(pod) {
        status = initialising;
    } else {
        let statuses = list(pod, "/status/containerStatuses");
        for container in statuses.iter().rev() {
            if let Some(reason) = reason(container) {
                status = reason;
            }
        }
        let running =
            statuses.iter().any(|one| one["ready"] == true && one.pointer("/state/running").is_some());
        if status == "Completed" && running {
            let conditions = list(pod, "/status/conditions");
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            status = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    match deleting(pod) {
        true if why == "NodeLost" => "Unknown".to_owned(),
        true if !matches!(phase, "Succeeded" | "Failed") => "Terminating".to_owned(),
        _ => status,
    }
}

fn restarts(pod: &Value, now: i64) -> String {
    let statuses = list(pod, "/status/containerStatuses");
    let sidecars =
        list(pod, "/status/initContainerStatuses").iter().filter(|one| restartable(pod, text(one, "/name")));
    let (mut count, mut last) = (0, "");
    for status in statuses.iter().chain(sidecars) {
        count += integer(status, "/restartCount").unwrap_or(0);
        // RFC 3339 in UTC sorts as text.
        last = last.max(text(status, "/lastState/terminated/finishedAt"));
    }
    if count > 0 && !last.is_empty() {
        format!("{count} ({} ago)", since(last, now))
    } else {
        count.to_string()
    }
}

fn ready(pod: &Value) -> String {
    let sidecar = |status: &&Value| restartable(pod, text(status, "/name"));
    let total = list(pod, "/spec/containers").len()
        + list(pod, "/spec/initContainers")
            .iter()
            .filter(|one| text(one, "/restartPolicy") == "Always")
            .count();
    let statuses = list(pod, "/status/containerStatuses").iter();
    let statuses = statuses.chain(list(pod, "/status/initContainerStatuses").iter().filter(sidecar));
    let ready =
        statuses.filter(|one| one["ready"] == true && one.pointer("/state/running").is_some()).count();
    format!("{ready}/{total}")
}

fn gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = |gate: &&Value| {
        let conditions = list(pod, "/status/conditions");
        conditions.iter().any(|one| one["type"] == gate["conditionType"] && one["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(met).count(), gates.len())
}

pub(super) fn cells(pod: &Value, now: i64) -> Vec<Value> {
    vec![
        own_name(pod),
        json!(ready(pod)),
        json!(status(pod)),
        json!(restarts(pod, now)),
        age(pod, now),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        json!(gates(pod)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_column_says_what_holds_a_pod_up() {
        let waiting = json!([{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        for (pod, want) in [
            (json!({"status": {"phase": "Pending"}}), "Pending"),
            (json!({"status": {"phase": "Running", "containerStatuses": waiting}}), "CrashLoopBackOff"),
            (json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "Evicted"),
            (json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}), "Terminating"),
            (
                json!({"status": {"phase": "Succeeded", "containerStatuses": [
                {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}}),
                "Completed",
            ),
            (
                json!({"spec": {"initContainers": [{"name": "i"}]}, "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"running": {}}}]}}),
                "Init:0/1",
            ),
            (
                json!({"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}}),
                "ExitCode:3",
            ),
        ] {
            assert_eq!(status(&pod), want, "{pod}");
        }
    }
}
