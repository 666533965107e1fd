//! What is to be done for a Job.

use std::collections::BTreeSet;
use std::time::Duration;

use apimachinery::object::{self, integer, list, text};
use daemon::backoff::doubled;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::count::{self, Count, count};
use super::{indexes, is_finished};
use crate::{conditions, pods, time};

/// Wait after a failed pod, doubled for each in a row, and the longest (`DefaultJobPodFailureBackOff`, `MaxJobPodFailureBackOff`).
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);
/// Pods made or deleted in one round.
const BURST: usize = 500;

#[derive(Debug, Default, PartialEq)]
pub struct Decision {
    /// The index of each pod to be made; `None` for Jobs without.
    pub create: Vec<Option<i64>>,
    pub delete: Vec<Value>,
    /// Pods that were counted: their finalizer goes.
    pub release: Vec<Value>,
    pub status: Value,
    /// `Normal` or `Warning`, reason, message.
    pub events: Vec<(&'static str, &'static str, String)>,
    pub again: Option<Duration>,
}

/// Why a Job fails: reason and message.
type Failure = (String, String);

struct Round<'a> {
    job: &'a Value,
    own: &'a [Value],
    count: Count,
    active: Vec<&'a Value>,
    now: Timestamp,
    decision: Decision,
}

/// `own` are its pods, ended ones included.
pub fn decide(job: &Value, own: &[Value], now: Timestamp) -> Decision {
    let count = count(job, own);
    let active = own.iter().filter(|pod| pods::is_active(pod)).collect();
    let mut round = Round { job, own, count, active, now, decision: Decision::default() };
    round.decision.release = std::mem::take(&mut round.count.release);
    round.decision.status = job["status"].clone();
    // What becomes of the pods of a Job that is being deleted is what its deletion says.
    if object::deleting(job) {
        round.numbers();
        return round.decision;
    }
    if is_finished(job) {
        round.decision.delete = round.active.iter().take(BURST).map(|pod| (*pod).clone()).collect();
        round.numbers();
        return round.decision;
    }
    let is_suspended = job["spec"]["suspend"] == true;
    round.start(is_suspended);
    round.go(is_suspended);
    round.numbers();
    round.decision
}

impl Round<'_> {
    fn spec(&self, field: &str) -> Option<i64> {
        self.job["spec"][field].as_i64()
    }

    fn set(&mut self, kind: &str, what: (&str, &str, &str)) -> bool {
        let mut all = list(&self.decision.status, "/conditions").to_vec();
        let now = daemon::clock::rfc3339(self.now);
        let changed = conditions::set(&mut all, kind, what, &now);
        if let Some(condition) =
            all.iter_mut().find(|condition| condition["type"] == kind).filter(|_| changed)
        {
            condition["lastProbeTime"] = json!(now);
        }
        self.decision.status["conditions"] = Value::Array(all);
        changed
    }

    fn start(&mut self, is_suspended: bool) {
        let started = self.decision.status.get("startTime").is_some();
        let was_suspended = conditions::is_true(self.job, "Suspended");
        match is_suspended {
            false if !started || was_suspended => {
                self.decision.status["startTime"] = json!(daemon::clock::rfc3339(self.now));
                if was_suspended && self.set("Suspended", ("False", "JobResumed", "Job resumed")) {
                    self.decision.events.push(("Normal", "Resumed", "Job resumed".to_owned()));
                }
            }
            true if !was_suspended => {
                object::as_map(&mut self.decision.status).remove("startTime");
                if self.set("Suspended", ("True", "JobSuspended", "Job suspended")) {
                    self.decision.events.push(("Normal", "Suspended", "Job suspended".to_owned()));
                }
            }
            _ => {}
        }
    }

    fn go(&mut self, is_suspended: bool) {
        if let Some(failure) = self.failure(is_suspended) {
            return self.fail(failure);
        }
        if self.is_complete() {
            return self.complete();
        }
        if is_suspended {
            self.decision.delete = self.active.iter().map(|pod| (*pod).clone()).collect();
            return;
        }
        self.fit();
    }

    /// Why it has failed, if it has; from the condition that was set when it began to fail, too.
    fn failure(&mut self, is_suspended: bool) -> Option<Failure> {
        if let Some(failing) =
            conditions::find(self.job, "FailureTarget").filter(|one| one["status"] == "True")
        {
            return Some((text(failing, "/reason").to_owned(), text(failing, "/message").to_owned()));
        }
        let limit = self.spec("backoffLimit").unwrap_or(6);
        let on_failure = text(self.job, "/spec/template/spec/restartPolicy") == "OnFailure";
        let restarts = |pod: &&Value| {
            let all = list(pod, "/status/containerStatuses")
                .iter()
                .chain(list(pod, "/status/initContainerStatuses"));
            all.filter_map(|status| integer(status, "/restartCount")).sum::<i64>()
        };
        let restarts: i64 = if on_failure { self.active.iter().map(restarts).sum() } else { 0 };
        if self.count.all_failed() > limit
            || (restarts > 0 && restarts >= limit && limit > 0)
            || restarts > limit
        {
            let message = "Job has reached the specified backoff limit".to_owned();
            return Some(("BackoffLimitExceeded".to_owned(), message));
        }
        let seconds = self.spec("activeDeadlineSeconds").filter(|_| !is_suspended)?;
        let ends = time::after(time::at(&self.decision.status, "/startTime")?, seconds);
        if ends <= self.now {
            return Some((
                "DeadlineExceeded".to_owned(),
                "Job was active longer than specified deadline".to_owned(),
            ));
        }
        self.decision.again = Some(time::between(self.now, ends));
        None
    }

    /// First the pods go, then the Job is called failed.
    fn fail(&mut self, (reason, message): Failure) {
        self.decision.delete = self.active.iter().map(|pod| (*pod).clone()).collect();
        self.decision.again = None;
        self.set("FailureTarget", ("True", &reason, &message));
        let is_quiet = self.active.is_empty() && !self.own.iter().any(count::is_leaving);
        if is_quiet && self.count.is_settled && self.set("Failed", ("True", &reason, &message)) {
            self.decision.events.push(("Warning", match_reason(&reason), message));
        }
    }

    fn completed_indexes(&self) -> BTreeSet<i64> {
        let mut done = indexes::read(self.job);
        done.extend(self.own.iter().filter(|pod| count::has_succeeded(pod)).filter_map(indexes::of));
        let completions = self.spec("completions").unwrap_or(0);
        done.retain(|index| *index < completions);
        done
    }

    fn is_indexed(&self) -> bool {
        text(self.job, "/spec/completionMode") == "Indexed"
    }

    fn is_complete(&self) -> bool {
        match self.spec("completions") {
            Some(completions) if self.is_indexed() => self.completed_indexes().len() as i64 >= completions,
            Some(completions) => self.count.all_succeeded() >= completions,
            // Any success ends it, once the others have ended as well.
            None => self.count.all_succeeded() > 0 && self.active.is_empty(),
        }
    }

    fn complete(&mut self) {
        self.decision.again = None;
        self.decision.delete = self.active.iter().map(|pod| (*pod).clone()).collect();
        let is_quiet = self.active.is_empty() && !self.own.iter().any(count::is_leaving);
        let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
        self.set("SuccessCriteriaMet", ("True", reason, message));
        if is_quiet && self.count.is_settled && self.set("Complete", ("True", reason, message)) {
            self.decision.status["completionTime"] = json!(daemon::clock::rfc3339(self.now));
            self.decision.events.push(("Normal", "Completed", "Job completed".to_owned()));
        }
    }

    /// As many active pods as there are to be.
    fn fit(&mut self) {
        let parallelism = self.spec("parallelism").unwrap_or(1).max(0);
        let wanted = match self.spec("completions") {
            Some(completions) if self.is_indexed() => {
                parallelism.min(completions - self.completed_indexes().len() as i64)
            }
            Some(completions) => parallelism.min(completions - self.count.all_succeeded()),
            None if self.count.all_succeeded() > 0 => self.active.len() as i64,
            None => parallelism,
        };
        let wanted = usize::try_from(wanted).unwrap_or(0);
        if self.active.len() > wanted {
            let mut active = self.active.clone();
            active.sort_by_key(|pod| (pods::is_ready(pod), !pods::node(pod).is_empty()));
            let surplus = active.len() - wanted;
            self.decision.delete = active.into_iter().take(surplus.min(BURST)).cloned().collect();
            return;
        }
        // Those that are being deleted are replaced at once unless only failed ones are to be.
        let only_failed = text(self.job, "/spec/podReplacementPolicy") == "Failed";
        let leaving =
            if only_failed { self.own.iter().filter(|pod| count::is_leaving(pod)).count() } else { 0 };
        let missing = wanted.saturating_sub(self.active.len() + leaving).min(BURST);
        if missing == 0 {
            return;
        }
        let (failures, last) = count::failures_in_a_row(self.own);
        if let Some(last) = last.filter(|_| failures > 0) {
            let until = time::after(last, doubled(FIRST, LONGEST, failures - 1).as_secs().cast_signed());
            if until > self.now {
                self.decision.again = time::sooner(self.decision.again, Some(time::between(self.now, until)));
                return;
            }
        }
        self.decision.create = match self.is_indexed() {
            false => vec![None; missing],
            true => self.free_indexes().take(missing).map(Some).collect(),
        };
    }

    fn free_indexes(&self) -> impl Iterator<Item = i64> + use<> {
        let mut taken = self.completed_indexes();
        taken.extend(self.active.iter().filter_map(|pod| indexes::of(pod)));
        (0..self.spec("completions").unwrap_or(0)).filter(move |index| !taken.contains(index))
    }

    fn numbers(&mut self) {
        let finished = is_finished(&json!({"status": self.decision.status}));
        let active = if finished { 0 } else { self.active.len() as i64 };
        let ready = self.active.iter().filter(|pod| pods::is_ready(pod)).count();
        let leaving = self.own.iter().filter(|pod| count::is_leaving(pod)).count();
        let indexes = self.is_indexed().then(|| indexes::write(&self.completed_indexes()));
        let uncounted = self.count.uncounted();
        let (succeeded, failed) = (self.count.succeeded, self.count.failed);
        let status = object::as_map(&mut self.decision.status);
        for (field, value) in [("active", active), ("succeeded", succeeded), ("failed", failed)] {
            match value {
                0 => drop(status.remove(field)),
                value => drop(status.insert(field.to_owned(), json!(value))),
            }
        }
        status.insert("ready".to_owned(), json!(ready));
        status.insert("terminating".to_owned(), json!(leaving));
        status.insert("uncountedTerminatedPods".to_owned(), uncounted);
        if let Some(indexes) = indexes.filter(|indexes| !indexes.is_empty()) {
            status.insert("completedIndexes".to_owned(), json!(indexes));
        }
    }
}

fn match_reason(reason: &str) -> &'static str {
    match reason {
        "DeadlineExceeded" => "DeadlineExceeded",
        _ => "BackoffLimitExceeded",
    }
}

#[cfg(test)]
mod tests;
