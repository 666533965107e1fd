//! Rules of workloads besides those of their pods: the part of `pkg/apis/apps/validation`, `pkg/apis/batch/validation` and
//! `pkg/apis/policy/validation` that catches common mistakes. What a real API server takes is never refused.

use serde_json::{Value, json};

use crate::Cause;
use crate::object::{integer, text};

/// What is wrong with a workload, its defaults filled in.
pub fn problems(plural: &str, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &object["spec"];
    for field in
        ["replicas", "minReadySeconds", "revisionHistoryLimit", "parallelism", "completions", "backoffLimit"]
    {
        not_negative(spec, field, &mut causes);
    }
    match plural {
        "deployments" => {
            always(object, &mut causes);
            deployment(spec, &mut causes);
        }
        "replicasets" | "replicationcontrollers" | "daemonsets" | "statefulsets" => {
            always(object, &mut causes)
        }
        "jobs" => job(object, &mut causes),
        "cronjobs" => cron_job(object, &mut causes),
        "poddisruptionbudgets" if is_given(spec, "minAvailable") && is_given(spec, "maxUnavailable") => {
            causes.push(Cause::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
        }
        _ => {}
    }
    causes
}

/// What an update must not have changed.
pub fn changes(plural: &str, old: &Value, new: &Value) -> Vec<Cause> {
    let (before, now) = (&old["spec"], &new["spec"]);
    match plural {
        "statefulsets" => {
            let free = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            let rest = |spec: &Value| {
                let mut spec = spec.clone();
                free.iter().for_each(|field| drop(spec.as_object_mut().map(|spec| spec.remove(*field))));
                spec
            };
            if rest(before) == rest(now) {
                return vec![];
            }
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                'minReadySeconds' are forbidden";
            vec![Cause::forbidden("spec", why)]
        }
        // The pods of a Job that is suspended and has none may yet be placed otherwise.
        "jobs" if before["suspend"] != true && before["template"] != now["template"] => {
            vec![Cause::invalid("spec.template", &now["template"], "field is immutable")]
        }
        _ => vec![],
    }
}

fn is_given(spec: &Value, field: &str) -> bool {
    spec.get(field).is_some_and(|value| !value.is_null())
}

fn not_negative(spec: &Value, field: &str, causes: &mut Vec<Cause>) {
    if spec[field].as_i64().is_some_and(|number| number < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid(format!("spec.{field}"), &spec[field], why));
    }
}

/// Pods of what keeps a number of them running restart always.
fn always(object: &Value, causes: &mut Vec<Cause>) {
    let policy = text(object, "/spec/template/spec/restartPolicy");
    if matches!(policy, "Never" | "OnFailure") {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", &json!(policy), &["Always"]));
    }
}

fn deployment(spec: &Value, causes: &mut Vec<Cause>) {
    let rolling = &spec["strategy"]["rollingUpdate"];
    let nothing = |field: &str| matches!(rolling[field].as_i64(), Some(0)) || rolling[field] == "0%";
    if rolling.is_object() && nothing("maxUnavailable") && nothing("maxSurge") {
        let field = "spec.strategy.rollingUpdate.maxUnavailable";
        causes.push(Cause::invalid(field, &rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"));
    }
    if let Some(deadline) = integer(spec, "/progressDeadlineSeconds")
        && deadline <= integer(spec, "/minReadySeconds").unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", &json!(deadline), why));
    }
}

/// A Job has its own selector only if it says so: it might take other Jobs' pods.
fn job(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let uid = text(object, "/metadata/uid");
    let own = spec["selector"]["matchLabels"].as_object().is_some_and(|labels| {
        ["batch.kubernetes.io/controller-uid", "controller-uid"]
            .iter()
            .any(|label| labels.get(*label).is_some_and(|found| *found == uid))
    });
    if !own && spec["manualSelector"] != true {
        causes.push(Cause::invalid("spec.selector", &spec["selector"], "`selector` not auto-generated"));
    }
}

/// Longest name of a CronJob: its Jobs' names are eleven letters longer.
const CRON_JOB_NAME: usize = 52;

fn cron_job(object: &Value, causes: &mut Vec<Cause>) {
    let name = text(object, "/metadata/name");
    if name.len() > CRON_JOB_NAME {
        let why = format!("must be no more than {CRON_JOB_NAME} characters");
        causes.push(Cause::invalid("metadata.name", &json!(name), &why));
    }
    if text(object, "/spec/schedule").is_empty() {
        causes.push(Cause::required("spec.schedule", ""));
    }
    let policy = text(object, "/spec/concurrencyPolicy");
    let policies = ["Allow", "Forbid", "Replace"];
    if !policies.contains(&policy) {
        causes.push(Cause::unsupported("spec.concurrencyPolicy", &json!(policy), &policies));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(causes: &[Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn a_deployment_moves_forward_and_counts_up() {
        let stuck = json!({"spec": {"replicas": -1, "minReadySeconds": 5, "progressDeadlineSeconds": 5,
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}},
            "template": {"spec": {"restartPolicy": "Never"}}}});
        let wanted = [
            "spec.replicas",
            "spec.template.spec.restartPolicy",
            "spec.strategy.rollingUpdate.maxUnavailable",
            "spec.progressDeadlineSeconds",
        ];
        assert_eq!(fields(&problems("deployments", &stuck)), wanted);
    }

    #[test]
    fn little_of_stateful_sets_and_running_jobs_changes() {
        let set =
            |service: &str, replicas: u32| json!({"spec": {"serviceName": service, "replicas": replicas}});
        assert!(changes("statefulsets", &set("a", 1), &set("a", 2)).is_empty());
        assert_eq!(fields(&changes("statefulsets", &set("a", 1), &set("b", 1))), ["spec"]);
        let job =
            |image: &str, suspend: bool| json!({"spec": {"template": {"image": image}, "suspend": suspend}});
        assert_eq!(fields(&changes("jobs", &job("a", false), &job("b", false))), ["spec.template"]);
        assert!(changes("jobs", &job("a", true), &job("b", true)).is_empty());
    }

    #[test]
    fn a_cron_job_has_a_short_name_a_schedule_and_a_policy() {
        let wrong = json!({"metadata": {"name": "a".repeat(53)}, "spec": {"concurrencyPolicy": "Maybe"}});
        assert_eq!(
            fields(&problems("cronjobs", &wrong)),
            ["metadata.name", "spec.schedule", "spec.concurrencyPolicy"]
        );
    }
}
