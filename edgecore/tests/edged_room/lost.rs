//! Pods that come back to a node that has lost its database.

use std::time::Duration;

use serde_json::{Value, json};

use crate::room::*;

fn ended(name: &str, code: i32) -> Value {
    let end = json!({"exitCode": code, "reason": "Completed", "containerID": format!("fake://{name}")});
    json!({"name": name, "restartCount": 0, "containerID": format!("fake://{name}"), "state": {"terminated": end}})
}

fn runs(name: &str) -> Value {
    json!({"name": name, "restartCount": 0, "containerID": format!("fake://{name}"), "state": {"running": {}}})
}

fn waits(name: &str) -> Value {
    json!({"name": name, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}})
}

/// A pod with containers `a` and `b`, as the API shows it.
fn told(policy: &str, phase: &str, containers: [Value; 2]) -> Value {
    let spec = json!({"restartPolicy": policy,
        "containers": [{"name": "a", "image": IMAGE}, {"name": "b", "image": IMAGE}]});
    let mut pod = pod(spec);
    pod["status"] =
        json!({"phase": phase, "startTime": "2026-11-21T00:00:00Z", "containerStatuses": containers});
    pod
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_never_runs_again() {
    for (phase, code) in [("Succeeded", 0), ("Failed", 1)] {
        let mut room = Room::new();
        room.start().await;
        room.put("default/pod/p", told("Never", phase, [ended("a", code), ended("b", code)])).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert!(room.fake.sandboxes().is_empty() && room.ids().is_empty());
        let status = room.status().await;
        assert!(status.is_null() || status["status"]["phase"] == phase, "{status}");
        // It has ended also for one who no longer says so.
        room.stop().await;
        room.start().await;
        room.put("default/pod/p", told("Never", "Pending", [ended("a", code), ended("b", code)])).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert!(room.fake.sandboxes().is_empty());
        room.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_done_is_not_run_again_beside_those_that_were_not() {
    for (policy, code) in [("OnFailure", 0), ("Never", 0), ("Never", 3)] {
        let mut room = Room::new();
        room.start().await;
        // What has run and may run once only has failed: the runtime lost it.
        let other = if policy == "Never" { waits("b") } else { runs("b") };
        room.put("default/pod/p", told(policy, "Running", [ended("a", code), other])).await;
        until("the other container", async || room.fake.running("b").is_some()).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!room.fake.containers().iter().any(|run| run.name() == "a"), "{policy} {code}");
        room.fake.exit("b", 0);
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        until("the end", async || room.status().await["status"]["phase"] == phase).await;
        room.stop().await;
    }
    // One that failed, or that always runs, is begun again.
    for (policy, code) in [("OnFailure", 1), ("Always", 0)] {
        let mut room = Room::new();
        room.start().await;
        room.put("default/pod/p", told(policy, "Running", [ended("a", code), runs("b")])).await;
        until("the first container", async || room.fake.running("a").is_some()).await;
        room.stop().await;
    }
}
