//! What workloads have by default, and what a new Job is given (`pkg/apis/apps/v1/defaults.go`, `pkg/apis/batch/v1/defaults.go`,
//! `pkg/registry/batch/job/strategy.go`).

use apimachinery::object::{self, as_map, map_in, set_default, text};
use apimachinery::{Cause, LabelSelector, pod, workload};
use controllers::cronjob::Schedule;
use serde_json::{Map, Value, json};

type Json = Map<String, Value>;

/// Completes the specification of a workload.
pub(super) fn complete(plural: &str, value: &mut Value) {
    if plural == "replicationcontrollers" {
        label_by_template(value);
    }
    let spec = map_in(as_map(value), "spec");
    match plural {
        "deployments" => deployment(spec),
        "replicasets" | "replicationcontrollers" => set_default(spec, "replicas", 1),
        "daemonsets" => {
            set_default(spec, "updateStrategy", json!({}));
            rolling(map_in(spec, "updateStrategy"), &[("maxUnavailable", json!(1)), ("maxSurge", json!(0))]);
            set_default(spec, "revisionHistoryLimit", 10);
        }
        "statefulsets" => stateful_set(spec),
        "jobs" => job(spec),
        "cronjobs" => cron_job(spec),
        _ => {}
    }
}

/// A ReplicationController without labels or a selector has those of its pods (`pkg/apis/core/v1/defaults.go`).
fn label_by_template(value: &mut Value) {
    let labels = value["spec"]["template"]["metadata"]["labels"].clone();
    let is_given = |labels: &Value| labels.as_object().is_some_and(|labels| !labels.is_empty());
    if !is_given(&labels) {
        return;
    }
    if !is_given(&value["metadata"]["labels"]) {
        object::metadata(value).insert("labels".to_owned(), labels.clone());
    }
    if !is_given(&value["spec"]["selector"]) {
        value["spec"]["selector"] = labels;
    }
}

/// What is wrong with a ReplicationController (`pkg/apis/core/validation`).
pub(super) fn replication_problems(value: &Value) -> Vec<Cause> {
    let spec = &value["spec"];
    let mut causes = workload::problems("replicationcontrollers", value);
    let selector = LabelSelector::of_labels(&spec["selector"]);
    if selector.is_everything() {
        causes.push(Cause::required("spec.selector", ""));
    }
    if spec["template"].is_null() {
        causes.push(Cause::required("spec.template", ""));
        return causes;
    }
    let metadata = &spec["template"]["metadata"];
    if !selector.matches_object(&json!({"metadata": metadata})) {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", &metadata["labels"], why));
    }
    causes.extend(pod::problems("spec.template.spec", &spec["template"]["spec"]));
    causes
}

fn rolling(strategy: &mut Json, defaults: &[(&str, Value)]) {
    set_default(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = map_in(strategy, "rollingUpdate");
        defaults.iter().for_each(|(name, value)| set_default(rolling, name, value.clone()));
    }
}

fn deployment(spec: &mut Json) {
    set_default(spec, "replicas", 1);
    rolling(map_in(spec, "strategy"), &[("maxUnavailable", json!("25%")), ("maxSurge", json!("25%"))]);
    set_default(spec, "revisionHistoryLimit", 10);
    set_default(spec, "progressDeadlineSeconds", 600);
}

fn stateful_set(spec: &mut Json) {
    set_default(spec, "replicas", 1);
    set_default(spec, "podManagementPolicy", "OrderedReady");
    rolling(map_in(spec, "updateStrategy"), &[("partition", json!(0))]);
    set_default(spec, "revisionHistoryLimit", 10);
    let policy = map_in(spec, "persistentVolumeClaimRetentionPolicy");
    set_default(policy, "whenDeleted", "Retain");
    set_default(policy, "whenScaled", "Retain");
    for claim in object::maps_in(spec, "volumeClaimTemplates") {
        set_default(map_in(claim, "spec"), "volumeMode", "Filesystem");
    }
}

fn job(spec: &mut Json) {
    // Neither number: one pod that has to succeed. Only the second: any success is enough.
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        set_default(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    set_default(spec, "manualSelector", false);
    let usual = if spec.contains_key("backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    set_default(spec, "backoffLimit", usual);
    set_default(spec, "podReplacementPolicy", "TerminatingOrFailed");
}

fn cron_job(spec: &mut Json) {
    set_default(spec, "concurrencyPolicy", "Allow");
    set_default(spec, "suspend", false);
    set_default(spec, "successfulJobsHistoryLimit", 3);
    set_default(spec, "failedJobsHistoryLimit", 1);
}

/// How often the template of a DaemonSet was changed, in the annotation by which clients of old know it. `old`: as it is stored.
pub(super) fn template_generation(old: Option<&Value>, new: &mut Value) {
    const NAME: &str = "deprecated.daemonset.template.generation";
    let count = old.map_or(1, |old| {
        let before =
            old["metadata"]["annotations"][NAME].as_str().and_then(|text| text.parse().ok()).unwrap_or(1);
        before + u64::from(old["spec"]["template"] != new["spec"]["template"])
    });
    map_in(object::metadata(new), "annotations").insert(NAME.to_owned(), json!(count.to_string()));
}

/// A new Job selects its pods by its own uid, unless it brings a selector of its own.
pub(super) fn new_job(value: &mut Value) {
    if value["spec"]["manualSelector"] == true {
        return;
    }
    let (name, uid) = (object::name(value).to_owned(), object::uid(value).to_owned());
    let template = map_in(map_in(as_map(value), "spec"), "template");
    let labels = map_in(map_in(template, "metadata"), "labels");
    for (label, own) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels.insert(label.to_owned(), json!(own));
    }
    let labels = value["spec"]["template"]["metadata"]["labels"].clone();
    if value["spec"]["selector"].is_null() {
        value["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    }
    let metadata = object::metadata(value);
    let own = map_in(metadata, "labels");
    for (label, value) in labels.as_object().into_iter().flatten() {
        set_default(own, label, value.clone());
    }
}

/// True if the selector of a workload takes its own pods: otherwise it would make pods for ever.
pub(super) fn selects_itself(value: &Value) -> bool {
    let selector = LabelSelector::of_object(&value["spec"]["selector"], "spec.selector");
    let labels = json!({"metadata": value["spec"]["template"]["metadata"]});
    selector.is_ok_and(|selector| !selector.is_everything() && selector.matches_object(&labels))
}

/// What is wrong with when a CronJob is to run.
pub(super) fn schedule_problems(value: &Value) -> Vec<Cause> {
    let (schedule, zone) = (text(value, "/spec/schedule"), text(value, "/spec/timeZone"));
    let mut causes = Vec::new();
    let is_known = zone.is_empty() || Schedule::parse("* * * * *", zone).is_ok();
    if !schedule.is_empty()
        && let Err(error) = Schedule::parse(schedule, if is_known { zone } else { "" })
    {
        let why = daemon::errors::describe(&error);
        causes.push(Cause::invalid("spec.schedule", &json!(schedule), &why));
    }
    if !is_known {
        let why = format!("unknown time zone {zone}");
        causes.push(Cause::invalid("spec.timeZone", &json!(zone), &why));
    }
    causes
}

/// The policy that pods of a Job must not have.
pub(super) fn restarts_always(value: &Value) -> bool {
    text(value, "/spec/template/spec/restartPolicy") == "Always"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_neither_number_needs_one_success_and_selects_by_its_uid() {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}});
        new_job(&mut job);
        complete("jobs", &mut job);
        assert_eq!((&job["spec"]["completions"], &job["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
        assert!(selects_itself(&job));
        let mut queue = json!({"spec": {"parallelism": 3}});
        complete("jobs", &mut queue);
        assert!(queue["spec"].get("completions").is_none());
    }

    #[test]
    fn defaults_twice_change_nothing() {
        for plural in ["deployments", "replicasets", "daemonsets", "statefulsets", "jobs", "cronjobs"] {
            let mut once =
                json!({"metadata": {}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
            complete(plural, &mut once);
            let mut twice = once.clone();
            complete(plural, &mut twice);
            assert_eq!(once, twice, "{plural}");
        }
    }
}
