use serde_json::json;

use super::*;
use crate::ownership::JOB_FINALIZER;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn job(spec: Value) -> Value {
    let mut job = json!({"metadata": {"name": "j", "uid": "j"}, "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 1,
        "template": {"spec": {"restartPolicy": "Never"}}}});
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job
}

fn pod(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "uid": name, "finalizers": [JOB_FINALIZER]}, "spec": {"nodeName": "n"}, "status": {"phase": phase}})
}

fn ended_at(mut pod: Value, time: &str) -> Value {
    pod["status"]["containerStatuses"] = json!([{"state": {"terminated": {"finishedAt": time}}}]);
    pod
}

/// Rounds in which pods lose their finalizers as decided; new pods take the phase that `next` gives.
fn run(job: &mut Value, own: &mut Vec<Value>, next: &str) {
    for round in 0..20 {
        let decision = decide(job, own, now());
        let same =
            job["status"] == decision.status && decision.create.is_empty() && decision.release.is_empty();
        job["status"] = decision.status;
        for released in &decision.release {
            let pod = own.iter_mut().find(|pod| object::uid(pod) == object::uid(released)).unwrap();
            pod["metadata"]["finalizers"] = json!([]);
        }
        own.retain(|pod| !decision.delete.iter().any(|gone| object::uid(gone) == object::uid(pod)));
        for (at, index) in decision.create.iter().enumerate() {
            let mut made = ended_at(pod(&format!("p{round}-{at}"), next), "2026-01-01T00:00:00Z");
            if let Some(index) = index {
                made["metadata"]["annotations"] = json!({super::super::INDEX: index.to_string()});
            }
            own.push(made);
        }
        if same {
            return;
        }
    }
    panic!("it does not end: {job:#}");
}

#[test]
fn as_many_pods_run_at_once_as_are_allowed_and_still_needed() {
    let first = decide(&job(json!({})), &[], now());
    assert_eq!(first.create, [None, None]);
    let mut started = job(json!({}));
    started["status"] = json!({"succeeded": 2, "startTime": "2026-01-01T00:00:00Z"});
    assert_eq!(decide(&started, &[], now()).create, [None]);
}

#[test]
fn a_job_is_complete_once_all_successes_are_counted() {
    let (mut job, mut own) = (job(json!({})), vec![]);
    run(&mut job, &mut own, "Succeeded");
    assert!(conditions::is_true(&job, "Complete"), "{job:#}");
    assert_eq!(
        (&job["status"]["succeeded"], &job["status"]["uncountedTerminatedPods"]),
        (&json!(3), &json!({}))
    );
    assert_eq!(own.len(), 3);
    assert!(own.iter().all(|pod| !count::is_tracked(pod)));
}

#[test]
fn a_pod_is_written_down_before_its_finalizer_goes_and_counted_after() {
    let mut job = job(json!({}));
    let mut own = vec![pod("a", "Succeeded")];
    let first = decide(&job, &own, now());
    assert_eq!(first.status["uncountedTerminatedPods"]["succeeded"], json!(["a"]));
    assert!(first.status.get("succeeded").is_none());
    job["status"] = first.status;
    own[0]["metadata"]["finalizers"] = json!([]);
    let second = decide(&job, &own, now());
    assert_eq!(second.status["succeeded"], 1);
    // Also if it is gone altogether.
    let gone = decide(&job, &[], now());
    assert_eq!(gone.status["succeeded"], 1);
}

#[test]
fn too_many_failures_fail_the_job() {
    let (mut job, mut own) = (job(json!({"parallelism": 1})), vec![]);
    run(&mut job, &mut own, "Failed");
    let failed = conditions::find(&job, "Failed").unwrap();
    assert_eq!((&failed["status"], &failed["reason"]), (&json!("True"), &json!("BackoffLimitExceeded")));
    assert_eq!(job["status"]["failed"], 2);
}

#[test]
fn a_failed_pod_is_replaced_after_a_wait() {
    let own = [ended_at(pod("a", "Failed"), "2026-01-01T00:59:55Z")];
    let decision = decide(&job(json!({})), &own, now());
    assert!(decision.create.is_empty());
    assert_eq!(decision.again, Some(Duration::from_secs(5)));
}

#[test]
fn a_job_over_its_deadline_fails_and_its_pods_go() {
    let mut job = job(json!({"activeDeadlineSeconds": 60}));
    job["status"] = json!({"startTime": "2026-01-01T00:58:00Z"});
    let decision = decide(&job, &[pod("a", "Running")], now());
    assert_eq!(decision.delete.len(), 1);
    job["status"] = decision.status;
    assert!(!conditions::is_true(&job, "Failed"), "not before they are gone");
    job["status"] = decide(&job, &[], now()).status;
    assert_eq!(conditions::find(&job, "Failed").unwrap()["reason"], "DeadlineExceeded");
}

#[test]
fn an_indexed_job_runs_each_index() {
    let (mut job, mut own) = (job(json!({"completionMode": "Indexed"})), vec![]);
    assert_eq!(decide(&job, &[], now()).create, [Some(0), Some(1)]);
    run(&mut job, &mut own, "Succeeded");
    assert_eq!(job["status"]["completedIndexes"], "0-2");
    assert!(conditions::is_true(&job, "Complete"));
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew_when_resumed() {
    let mut job = job(json!({"suspend": true}));
    let decision = decide(&job, &[pod("a", "Running")], now());
    assert_eq!((decision.delete.len(), decision.create.len()), (1, 0));
    job["status"] = decision.status;
    assert!(conditions::is_true(&job, "Suspended") && job["status"].get("startTime").is_none());
    job["spec"]["suspend"] = json!(false);
    let resumed = decide(&job, &[], now());
    assert_eq!((resumed.create.len(), resumed.status["startTime"].is_string()), (2, true));
}
