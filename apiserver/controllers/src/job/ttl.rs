//! Jobs that are over go after their `ttlSecondsAfterFinished` (`pkg/controller/ttlafterfinished`).

use apimachinery::Status;
use apimachinery::object::{self, integer, list, text};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

use super::KIND;
use crate::api::{Key, Kind};
use crate::cache::{Cache, Change};
use crate::shell::{Again, Controller, Work};
use crate::time;

/// When a Job goes; `None`: it is not over, or stays.
fn goes(job: &Value) -> Option<Timestamp> {
    let seconds = integer(job, "/spec/ttlSecondsAfterFinished")?;
    let over = |one: &&Value| matches!(text(one, "/type"), "Complete" | "Failed") && one["status"] == "True";
    let condition = list(job, "/status/conditions").iter().find(over)?;
    Some(time::after(time::at(condition, "/lastTransitionTime")?, seconds))
}

/// The controller.
pub struct Ttl;

impl Controller for Ttl {
    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn user(&self) -> &'static str {
        "system:serviceaccount:kube-system:ttl-after-finished-controller"
    }

    fn reads(&self) -> Vec<Kind> {
        vec![KIND]
    }

    fn touched(&self, _: &Cache, change: &Change) -> Vec<Key> {
        let finished = change.kind == KIND && change.new.is_some();
        if finished { vec![change.key.clone()] } else { vec![] }
    }

    fn reconcile<'a>(&'a self, work: &'a Work, key: &'a Key) -> BoxFuture<'a, Result<Again, Status>> {
        async move {
            let job = work.cache.store(KIND).get(key).filter(|job| !object::deleting(job));
            let Some((job, goes)) = job.and_then(|job| goes(&job).map(|at| (job, at))) else {
                return Ok(None);
            };
            let now = (work.now)();
            if goes > now {
                return Ok(Some(time::between(now, goes)));
            }
            work.client.delete(KIND, &job).await.map(|()| None)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_goes_so_long_after_its_end_and_never_before() {
        let job = |conditions: Value| json!({"spec": {"ttlSecondsAfterFinished": 60}, "status": {"conditions": conditions}});
        assert_eq!(goes(&job(json!([{"type": "Suspended", "status": "True"}]))), None);
        let ended =
            json!([{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        assert_eq!(goes(&job(ended)), Some("2026-01-01T00:01:00Z".parse().unwrap()));
    }
}
