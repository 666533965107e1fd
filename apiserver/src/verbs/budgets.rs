//! Whether a pod may be evicted, by the PodDisruptionBudgets that select it (`pkg/registry/core/pod/storage/eviction.go`).

use apimachinery::object::{self, as_map, integer, list, map_in, text};
use apimachinery::traits::Traits;
use apimachinery::{Cause, LabelSelector, Status};
use daemon::clock;
use kubeapi::stored::{ListQuery, Stored};
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;
use crate::storage::{Change, WriteError};

const BUDGETS: &str = "poddisruptionbudgets.policy";
/// Races with the controller that keeps the budgets, lost before giving up.
const ATTEMPTS: u32 = 16;
/// Evictions that a budget notes at once (`MaxDisruptedPodSize`).
const NOTED: usize = 2000;

/// Takes one disruption from the budget of a pod, if it needs one: 429 if there is none.
pub(super) async fn spend(context: &Context, pod: &Target, dry_run: bool) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let found = context.storage.get(&pod.key()).await?.ok_or_else(|| pod.not_found())?.value()?;
        let Some(stored) = budget(context, pod, &found).await? else { return Ok(()) };
        let before = stored.value()?;
        let Some(value) = spent(&before, &found)? else { return Ok(()) };
        if dry_run {
            return Ok(());
        }
        let previous = Traits::of(BUDGETS, &before);
        let change = Change::Update { value, expected: stored.revision, previous };
        match context.storage.commit(stored.key.clone(), change).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Store(status)) => return Err(status),
            // It was changed, or is gone: looked at again.
            Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => {}
        }
    }
    Err(too_many("the disruption budget changes too often; try again", ""))
}

/// The budget that selects a pod. A pod that has not started or has ended needs none.
async fn budget(context: &Context, pod: &Target, found: &Value) -> Result<Option<Stored>, Status> {
    let phase = text(found, "/status/phase");
    if matches!(phase, "Pending" | "Succeeded" | "Failed") || object::deleting(found) {
        return Ok(None);
    }
    let query = ListQuery {
        resource: BUDGETS.to_owned(),
        namespace: Some(pod.namespace.clone()),
        ..ListQuery::default()
    };
    let mut selecting = Vec::new();
    for stored in context.storage.list(query).await?.items {
        let selector = stored.value()?["spec"]["selector"].clone();
        let read = LabelSelector::of_object(&selector, "spec.selector");
        if !selector.is_null() && read.is_ok_and(|selector| selector.matches_object(found)) {
            selecting.push(stored);
        }
    }
    match selecting.len() {
        0 | 1 => Ok(selecting.pop()),
        _ => {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            Err(Status::internal(message))
        }
    }
}

/// The budget after an eviction; `None`: it is not charged for this pod.
fn spent(budget: &Value, pod: &Value) -> Result<Option<Value>, Status> {
    let number = |field: &str| integer(budget, &format!("/status/{field}")).unwrap_or(0);
    let conditions = list(pod, "/status/conditions");
    let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    let policy = text(budget, "/spec/unhealthyPodEvictionPolicy");
    let has_enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    if !is_ready && (policy == "AlwaysAllow" || has_enough) {
        return Ok(None);
    }
    let name = object::name(budget);
    if number("observedGeneration") < integer(budget, "/metadata/generation").unwrap_or(0) {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many("Cannot evict pod as it would violate the pod's disruption budget.", &cause));
    }
    if number("disruptionsAllowed") <= 0 {
        let cause = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("desiredHealthy"),
            number("currentHealthy")
        );
        return Err(too_many("Cannot evict pod as it would violate the pod's disruption budget.", &cause));
    }
    if budget["status"]["disruptedPods"].as_object().is_some_and(|noted| noted.len() >= NOTED) {
        return Err(too_many(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "",
        ));
    }
    let mut after = budget.clone();
    let status = map_in(as_map(&mut after), "status");
    status.insert("disruptionsAllowed".to_owned(), json!(number("disruptionsAllowed") - 1));
    let now = clock::rfc3339(clock::now());
    map_in(status, "disruptedPods").insert(object::name(pod).to_owned(), json!(now));
    Ok(Some(after))
}

fn too_many(message: &str, cause: &str) -> Status {
    let mut status = Status::new(429, "TooManyRequests", message);
    if !cause.is_empty() {
        status.causes = vec![Cause {
            reason: "DisruptionBudget".into(),
            message: cause.to_owned(),
            field: String::new(),
        }];
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "status": {"observedGeneration": 1, "disruptionsAllowed": allowed,
            "currentHealthy": 2, "desiredHealthy": 2}})
    }

    fn pod(ready: &str) -> Value {
        json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn an_eviction_takes_one_disruption_and_is_refused_without() {
        let after = spent(&budget(1), &pod("True")).unwrap().unwrap();
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert!(after["status"]["disruptedPods"]["p"].is_string());
        let refused = spent(&after, &pod("True")).unwrap_err();
        assert_eq!((refused.code, refused.causes[0].reason.as_ref()), (429, "DisruptionBudget"));
        let mut unseen = budget(1);
        unseen["metadata"]["generation"] = json!(2);
        assert_eq!(spent(&unseen, &pod("True")).unwrap_err().code, 429);
    }

    #[test]
    fn a_pod_that_is_not_ready_goes_free_while_enough_others_are() {
        assert_eq!(spent(&budget(0), &pod("False")).unwrap(), None);
        let mut short = budget(0);
        short["status"]["currentHealthy"] = json!(1);
        assert_eq!(spent(&short, &pod("False")).unwrap_err().code, 429);
        short["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(spent(&short, &pod("False")).unwrap(), None);
    }
}
