//! What of a Job's pods has been counted, and what is to be.

use apimachinery::object::{self, integer, list, text};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ownership::JOB_FINALIZER;

pub(super) fn is_tracked(pod: &Value) -> bool {
    list(pod, "/metadata/finalizers").iter().any(|one| one == JOB_FINALIZER)
}

/// The pods of a Job by what became of them, and the numbers of its status brought up to date.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub succeeded: i64,
    pub failed: i64,
    /// Uids that are in neither number yet.
    pub uncounted: [Vec<String>; 2],
    /// Whose finalizer goes now: their uid is in the status.
    pub release: Vec<Value>,
    /// True once nothing waits to be counted.
    pub is_settled: bool,
}

pub(super) fn has_succeeded(pod: &Value) -> bool {
    text(pod, "/status/phase") == "Succeeded"
}

/// Failed, or deleted before it ended.
pub(super) fn has_failed(pod: &Value) -> bool {
    match text(pod, "/status/phase") {
        "Failed" => true,
        "Succeeded" => false,
        _ => object::deleting(pod),
    }
}

/// True for one that replaces no pod yet: it is being deleted, and has not ended.
pub(super) fn is_leaving(pod: &Value) -> bool {
    object::deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

pub(super) fn count(job: &Value, own: &[Value]) -> Count {
    let before = |field: &str| -> Vec<String> {
        let uids = list(job, &format!("/status/uncountedTerminatedPods/{field}"));
        uids.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut count = Count {
        succeeded: integer(job, "/status/succeeded").unwrap_or(0),
        failed: integer(job, "/status/failed").unwrap_or(0),
        ..Count::default()
    };
    for (at, field) in ["succeeded", "failed"].into_iter().enumerate() {
        for uid in before(field) {
            // Whose finalizer is gone counts for good.
            match own.iter().find(|pod| object::uid(pod) == uid).filter(|pod| is_tracked(pod)) {
                None if at == 0 => count.succeeded += 1,
                None => count.failed += 1,
                Some(pod) => {
                    count.release.push(pod.clone());
                    count.uncounted[at].push(uid);
                }
            }
        }
    }
    let known: Vec<String> = count.uncounted.concat();
    let mut news = 0;
    for pod in own.iter().filter(|pod| is_tracked(pod) && !known.contains(&object::uid(pod).to_owned())) {
        let at = match (has_succeeded(pod), has_failed(pod) && !is_leaving(pod)) {
            (true, _) => 0,
            (_, true) => 1,
            _ => continue,
        };
        count.uncounted[at].push(object::uid(pod).to_owned());
        news += 1;
    }
    count.is_settled = news == 0 && count.release.is_empty();
    // The status comes first, then the finalizers: a stop in between forgets nothing.
    if news > 0 {
        let fresh =
            own.iter().filter(|pod| count.uncounted.iter().flatten().any(|uid| uid == object::uid(pod)));
        let fresh: Vec<Value> = fresh
            .filter(|pod| !count.release.iter().any(|old| object::uid(old) == object::uid(pod)))
            .cloned()
            .collect();
        count.release.extend(fresh);
    }
    count
}

impl Count {
    pub(super) fn all_succeeded(&self) -> i64 {
        self.succeeded + self.uncounted[0].len() as i64
    }

    pub(super) fn all_failed(&self) -> i64 {
        self.failed + self.uncounted[1].len() as i64
    }

    pub(super) fn uncounted(&self) -> Value {
        let mut value = json!({});
        for (field, uids) in ["succeeded", "failed"].into_iter().zip(&self.uncounted) {
            if !uids.is_empty() {
                value[field] = json!(uids);
            }
        }
        value
    }
}

/// When the last container of a pod ended.
fn ended(pod: &Value) -> Option<Timestamp> {
    let all = list(pod, "/status/containerStatuses").iter();
    let ends = all.filter_map(|status| crate::time::at(status, "/state/terminated/finishedAt"));
    ends.max().or_else(|| crate::time::at(pod, "/metadata/deletionTimestamp"))
}

/// Failures since the last success, and when the last of them was.
pub(super) fn failures_in_a_row(own: &[Value]) -> (u32, Option<Timestamp>) {
    let success = own.iter().filter(|pod| has_succeeded(pod)).filter_map(ended).max();
    let failures = own.iter().filter(|pod| has_failed(pod) && !is_leaving(pod)).filter_map(ended);
    let since: Vec<Timestamp> = failures.filter(|at| success.is_none_or(|success| *at > success)).collect();
    (u32::try_from(since.len()).unwrap_or(u32::MAX), since.into_iter().max())
}
