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
        pass(Duration::from_secs(200)).await;
        assert!(room.fake.sandboxes().is_empty() && room.ids().is_empty());
        let status = room.status().await;
        assert!(status.is_null() || status["status"]["phase"] == phase, "{status}");
        // It has ended also for one who no longer says so.
        room.stop().await;
        room.start().await;
        room.put("default/pod/p", told("Never", "Pending", [ended("a", code), ended("b", code)])).await;
        pass(Duration::from_secs(200)).await;
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
        pass(Duration::from_secs(100)).await;
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

#[tokio::test(start_paused = true)]
async fn pods_that_a_lost_database_does_not_have_run_on_and_are_taken_over_when_the_cloud_tells_them() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    let other = named("q", "u-2", pod(json!({"containers": [{"name": "b", "image": IMAGE}]})));
    room.put("default/pod/q", other).await;
    until("both run", async || room.fake.running("a").is_some() && room.fake.running("b").is_some()).await;
    room.stop().await;
    let (ids, folders) =
        (room.ids(), ["u-1", "u-2"].map(|uid| room.folder.path().join("kubelet/pods").join(uid)));
    assert!(folders.iter().all(|folder| folder.exists()));

    room.store = metamanager::database::open(&room.folder.path().join("new.db")).unwrap();
    room.in_step.send_replace(false);
    room.start().await;
    pass(Duration::from_secs(600)).await;
    assert_eq!(room.ids(), ids, "nobody said that they should go");
    assert!(room.fake.running("a").is_some() && room.fake.running("b").is_some());
    assert!(folders.iter().all(|folder| folder.exists()));

    room.put("default/pod/p", pod(json!({}))).await;
    room.in_step.send_replace(true);
    until("what the cloud does not tell is gone", async || room.fake.running("b").is_none()).await;
    until("its folder too", async || !folders[1].exists()).await;
    pass(Duration::from_secs(200)).await;
    let run = room.fake.running("a").unwrap();
    assert!(ids.contains(&run.id), "it was taken over as it ran");
    assert!(folders[0].exists());
    assert_eq!(room.status_of("p").await["status"]["phase"], "Running");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_known_here_and_taken_away_goes_without_the_cloud() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.stop().await;
    room.apply("default/pod/p", metamanager::Change::Remove { uid: None }).await;
    room.in_step.send_replace(false);
    room.start().await;
    until("no run", async || room.fake.running("a").is_none()).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_row_is_damaged_runs_on_until_the_cloud_has_told_it_again() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let ids = room.ids();
    room.stop().await;
    let damage = |tx: &store::rusqlite::Transaction<'_>| {
        tx.execute("UPDATE meta SET value = substr(value, 1, 20) WHERE type = 'pod'", []).map(drop)
    };
    room.store.write(damage).await.unwrap();
    room.in_step.send_replace(false);
    room.start().await;
    pass(Duration::from_secs(600)).await;
    assert!(room.fake.running("a").is_some());
    // Rows that cannot be read are not told of, so the cloud sends the pod.
    room.put("default/pod/p", pod(json!({}))).await;
    room.in_step.send_replace(true);
    pass(Duration::from_secs(200)).await;
    assert_eq!(room.ids(), ids, "taken over as it ran");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_read_has_failed_with_the_reason_and_can_be_deleted() {
    let mut room = Room::new();
    room.start().await;
    let wrong = pod(json!({"containers": [{"name": "a", "image": IMAGE, "args": [1]}]}));
    room.put("default/pod/p", wrong.clone()).await;
    until("its failure", async || room.status().await["status"]["phase"] == "Failed").await;
    let status = room.status().await["status"].clone();
    assert_eq!(status["reason"], "InvalidPod");
    assert!(status["message"].as_str().unwrap().contains("cannot be read"), "{status}");
    assert!(room.fake.sandboxes().is_empty());
    room.put("default/pod/p", ending(wrong)).await;
    until("its deletion", async || room.deletions().await == 1).await;
    room.stop().await;
}
