//! Jobs, CronJobs and PodDisruptionBudgets.

use apimachinery::duration;
use apimachinery::object::{integer, list, text};
use serde_json::{Value, json};

use super::parts::{containers, selector};
use super::{age, or_none, own_name, since};

fn is_true(object: &Value, kind: &str) -> bool {
    list(object, "/status/conditions").iter().any(|one| one["type"] == kind && one["status"] == "True")
}

pub(super) fn job(object: &Value, now: i64) -> Vec<Value> {
    let kinds = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    let status = kinds.iter().find(|(kind, _)| is_true(object, kind)).map_or("Running", |(_, shown)| shown);
    let done = integer(object, "/status/succeeded").unwrap_or(0);
    let completions = match (integer(object, "/spec/completions"), integer(object, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, Some(parallel)) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let seconds = |field: &str| text(object, field).parse::<jiff::Timestamp>().ok().map(|at| at.as_second());
    let start = seconds("/status/startTime");
    let lasted = start.map(|start| seconds("/status/completionTime").unwrap_or(now) - start);
    let lasted = lasted.map(duration::human).unwrap_or_default();
    let mut cells =
        vec![own_name(object), json!(status), json!(completions), json!(lasted), age(object, now)];
    cells.extend(containers(object, "/spec/template/spec"));
    cells.push(selector(object, "/spec/selector"));
    cells
}

pub(super) fn cron_job(object: &Value, now: i64) -> Vec<Value> {
    let suspended = if object["spec"]["suspend"] == true { "True" } else { "False" };
    let last = text(object, "/status/lastScheduleTime");
    let last = if last.is_empty() { "<none>".to_owned() } else { since(last, now) };
    let active = list(object, "/status/active").len();
    let mut cells = vec![
        own_name(object),
        json!(text(object, "/spec/schedule")),
        or_none(text(object, "/spec/timeZone")),
        json!(suspended),
        json!(active),
        json!(last),
        age(object, now),
    ];
    cells.extend(containers(object, "/spec/jobTemplate/spec/template/spec"));
    cells.push(selector(object, "/spec/jobTemplate/spec/selector"));
    cells
}

pub(super) fn budget(object: &Value, now: i64) -> Vec<Value> {
    let given = |field: &str| match &object["spec"][field] {
        Value::Null => json!("N/A"),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    };
    let allowed = integer(object, "/status/disruptionsAllowed").unwrap_or(0);
    vec![own_name(object), given("minAvailable"), given("maxUnavailable"), json!(allowed), age(object, now)]
}
