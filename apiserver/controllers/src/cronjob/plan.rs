//! Whether a CronJob makes a Job now, and when next; which old ones go; pure.

use std::time::Duration;

use apimachinery::object::{self, integer, list, text};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::schedule::Schedule;
use super::{JOB, KIND};
use crate::{conditions, job, ownership, time};

/// Times that were missed, beyond which no Job is made up for (`mostRecentScheduleTime`).
const MISSED: usize = 100;

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Option<Value>,
    pub delete: Vec<Value>,
    pub status: Value,
    pub events: Vec<(&'static str, &'static str, String)>,
    pub again: Option<Duration>,
}

/// `jobs` are its own.
pub fn plan(cron: &Value, jobs: &[Value], now: Timestamp) -> Plan {
    let mut plan = Plan { delete: history(cron, jobs), status: status(cron, jobs), ..Plan::default() };
    if cron["spec"]["suspend"] == true {
        return plan;
    }
    let schedule = match Schedule::parse(text(cron, "/spec/schedule"), text(cron, "/spec/timeZone")) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", text(cron, "/spec/schedule"));
            plan.events.push(("Warning", "UnparseableSchedule", message));
            return plan;
        }
    };
    let Some(next) = schedule.next(now) else {
        let why = "time difference between two schedules is less than 1 second";
        let message = format!("invalid schedule: {} : {why}", text(cron, "/spec/schedule"));
        plan.events.push(("Warning", "InvalidSchedule", message));
        return plan;
    };
    plan.again = Some(time::between(now, next) + Duration::from_millis(100));
    let Some(due) = due(cron, &schedule, now, &mut plan) else { return plan };
    let deadline = integer(cron, "/spec/startingDeadlineSeconds");
    if deadline.is_some_and(|seconds| time::after(due, seconds) < now) {
        let message = format!("Missed scheduled time to start a job: {due}");
        plan.events.push(("Warning", "MissSchedule", message));
        return plan;
    }
    let name = format!("{}-{}", object::name(cron), due.as_second().div_euclid(60));
    let active: Vec<&Value> = jobs.iter().filter(|job| !job::is_finished(job)).collect();
    if jobs.iter().any(|job| object::name(job) == name) {
        return plan;
    }
    match text(cron, "/spec/concurrencyPolicy") {
        "Forbid" if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            plan.events.push(("Normal", "JobAlreadyActive", message.to_owned()));
            return plan;
        }
        "Replace" => {
            plan.delete.extend(active.into_iter().cloned());
            plan.status["active"] = json!([]);
        }
        _ => {}
    }
    plan.create = Some(made(cron, &name, due));
    plan.status["lastScheduleTime"] = json!(daemon::clock::rfc3339(due));
    plan
}

/// The last time that has come since the last Job, or since the CronJob was made.
fn due(cron: &Value, schedule: &Schedule, now: Timestamp, plan: &mut Plan) -> Option<Timestamp> {
    let mut from = time::at(cron, "/status/lastScheduleTime")
        .or_else(|| time::at(cron, "/metadata/creationTimestamp"))?;
    if let Some(seconds) = integer(cron, "/spec/startingDeadlineSeconds") {
        from = from.max(time::after(now, -seconds));
    }
    let (mut last, mut count) = (None, 0);
    while let Some(next) = schedule.next(from).filter(|next| *next <= now) {
        (last, from, count) = (Some(next), next, count + 1);
        if count > MISSED {
            // Only the last one matters, and it is near: it is looked for from a short while ago on.
            from = time::after(now, -3600).max(from);
            count = 0;
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            plan.events = vec![("Warning", "TooManyMissedTimes", message.to_owned())];
        }
    }
    last
}

fn made(cron: &Value, name: &str, due: Timestamp) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let mut metadata = json!({"name": name, "namespace": object::namespace(cron), "ownerReferences": [ownership::reference(KIND, cron)]});
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] =
        json!(daemon::clock::rfc3339(due));
    json!({"apiVersion": JOB.api_version(), "kind": JOB.kind, "metadata": metadata, "spec": template["spec"]})
}

fn reference(job: &Value) -> Value {
    json!({"apiVersion": JOB.api_version(), "kind": JOB.kind, "name": object::name(job), "namespace": object::namespace(job),
        "uid": object::uid(job), "resourceVersion": object::resource_version(job)})
}

/// A Job that was just made is active.
pub(super) fn note_active(status: &mut Value, job: &Value) {
    let mut active = list(status, "/active").to_vec();
    active.push(reference(job));
    status["active"] = json!(active);
}

fn status(cron: &Value, jobs: &[Value]) -> Value {
    let mut status = cron["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let known = list(cron, "/status/active");
    let reference = |job: &Value| {
        let old = known.iter().find(|old| text(old, "/uid") == object::uid(job));
        old.cloned().unwrap_or_else(|| reference(job))
    };
    let active: Vec<Value> = jobs.iter().filter(|job| !job::is_finished(job)).map(reference).collect();
    match active.is_empty() {
        true => drop(object::as_map(&mut status).remove("active")),
        false => status["active"] = json!(active),
    }
    let done = jobs.iter().filter(|job| conditions::is_true(job, "Complete"));
    let last = done.map(|job| text(job, "/status/completionTime")).max().unwrap_or_default();
    if last > text(&status, "/lastSuccessfulTime") {
        status["lastSuccessfulTime"] = json!(last);
    }
    status
}

/// Jobs that are over, beyond those that are kept, oldest first.
fn history(cron: &Value, jobs: &[Value]) -> Vec<Value> {
    let mut gone = Vec::new();
    for (limit, kind) in [("successfulJobsHistoryLimit", "Complete"), ("failedJobsHistoryLimit", "Failed")] {
        let Some(limit) = cron["spec"][limit].as_u64() else { continue };
        let mut over: Vec<&Value> = jobs.iter().filter(|job| conditions::is_true(job, kind)).collect();
        over.sort_by_key(|job| (text(job, "/status/startTime").to_owned(), object::name(job).to_owned()));
        let surplus = over.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        gone.extend(over.into_iter().take(surplus).filter(|job| !object::deleting(job)).cloned());
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(spec: Value) -> Value {
        let mut cron = json!({"metadata": {"name": "c", "namespace": "n", "uid": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "*/10 * * * *", "successfulJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": {}}}}});
        for (field, value) in spec.as_object().unwrap() {
            cron["spec"][field] = value.clone();
        }
        cron
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}Z").parse().unwrap()
    }

    fn job(name: &str, over: &str) -> Value {
        json!({"metadata": {"name": name, "uid": name}, "status": {"startTime": name, "conditions": [{"type": over, "status": "True"}]}})
    }

    #[test]
    fn a_job_is_made_at_each_time_and_named_for_it() {
        let before = plan(&cron(json!({})), &[], at("00:09:00"));
        assert_eq!((before.create, before.again), (None, Some(Duration::from_millis(60_100))));
        let due = plan(&cron(json!({})), &[], at("00:20:05"));
        assert_eq!(object::name(due.create.as_ref().unwrap()), "c-29453780");
        assert_eq!(due.status["lastScheduleTime"], "2026-01-01T00:20:00Z");
        let mut told = cron(json!({}));
        told["status"] = due.status;
        assert_eq!(plan(&told, &[], at("00:20:06")).create, None);
    }

    #[test]
    fn what_runs_is_left_alone_waited_for_or_replaced() {
        let running = [job("old", "Suspended")];
        let with = |policy: &str| plan(&cron(json!({"concurrencyPolicy": policy})), &running, at("00:10:01"));
        assert!(with("Allow").create.is_some() && with("Allow").delete.is_empty());
        assert!(with("Forbid").create.is_none());
        assert!(with("Replace").create.is_some() && with("Replace").delete.len() == 1);
    }

    #[test]
    fn a_time_missed_by_more_than_the_deadline_is_let_go() {
        let late = plan(&cron(json!({"startingDeadlineSeconds": 30})), &[], at("00:15:00"));
        assert_eq!(late.create, None);
        assert!(plan(&cron(json!({"startingDeadlineSeconds": 400})), &[], at("00:15:00")).create.is_some());
        assert!(plan(&cron(json!({"suspend": true})), &[], at("00:15:00")).again.is_none());
    }

    #[test]
    fn old_jobs_go_but_for_as_many_as_are_kept() {
        let jobs = [job("1", "Complete"), job("2", "Complete"), job("3", "Failed")];
        let gone = plan(&cron(json!({})), &jobs, at("00:01:00")).delete;
        assert_eq!(gone.iter().map(object::name).collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn after_a_long_pause_one_job_makes_up_for_all() {
        let mut cron = cron(json!({"schedule": "* * * * *"}));
        cron["metadata"]["creationTimestamp"] = json!("2025-12-01T00:00:00Z");
        let plan = plan(&cron, &[], at("12:00:30"));
        assert_eq!(plan.status["lastScheduleTime"], "2026-01-01T12:00:00Z");
        assert_eq!(plan.events[0].1, "TooManyMissedTimes");
    }

    #[test]
    fn a_time_that_never_comes_is_told_of() {
        for (schedule, reason) in [("59 23 31 2 *", "InvalidSchedule"), ("often", "UnparseableSchedule")] {
            let plan = plan(&cron(json!({"schedule": schedule})), &[], at("00:00:01"));
            assert_eq!((plan.create, plan.again, plan.events[0].1), (None, None, reason));
            assert!(plan.events[0].2.contains(schedule), "{:?}", plan.events);
        }
    }
}
