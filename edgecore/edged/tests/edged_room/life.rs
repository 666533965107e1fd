//! Pods start, crash, are adopted, are told of, and end.

use std::time::Duration;

use metamanager::Change;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::room::*;

#[tokio::test(start_paused = true)]
async fn a_crashing_container_restarts_at_once_then_after_ten_and_twenty_seconds() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    let mut waited = Vec::new();
    for attempt in 0..4 {
        until("a running container", async || room.fake.running("a").is_some_and(|a| a.attempt() == attempt))
            .await;
        let crashed = Instant::now();
        assert!(room.fake.exit("a", 1));
        if attempt < 3 {
            until("the next run", async || room.fake.running("a").is_some()).await;
            waited.push(crashed.elapsed().as_secs());
        }
    }
    assert!(waited[0] < 5, "{waited:?}");
    assert!((10..15).contains(&waited[1]) && (20..25).contains(&waited[2]), "{waited:?}");
    until("the reason in the status", async || {
        room.status().await["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
            == "CrashLoopBackOff"
    })
    .await;
    until("the removal of old runs", async || room.fake.containers().len() <= 2).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_edgecore_adopts_what_runs_and_keeps_the_back_off() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let before = room.ids();
    room.stop().await;
    room.start().await;
    pass(Duration::from_secs(30)).await;
    assert_eq!(room.ids(), before);
    for attempt in 0..2 {
        until("a run", async || room.fake.running("a").is_some_and(|a| a.attempt() == attempt)).await;
        room.fake.exit("a", 1);
    }
    let crashed = Instant::now();
    pass(Duration::from_secs(2)).await;
    room.stop().await;
    room.start().await;
    until("the third run", async || room.fake.running("a").is_some()).await;
    assert!(crashed.elapsed() >= Duration::from_secs(10), "{:?}", crashed.elapsed());
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_restarts_at_once_leaves_an_event_of_it() {
    let mut room = Room::new();
    room.events = true;
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    pass(Duration::from_secs(3)).await;
    room.fake.exit("a", 1);
    until("the next run", async || room.fake.running("a").is_some_and(|a| a.attempt() == 1)).await;
    until("its event", async || room.last_event("Started").await["count"] == 2).await;
    let told = room.events_of("Started").await;
    pass(Duration::from_secs(300)).await;
    assert_eq!(room.events_of("Started").await, told, "it is told once");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_the_runtime_does_not_tell_of_is_not_called_ready_for_ever() {
    let mut room = Room::new();
    room.start().await;
    room.link.send_replace(metamanager::LinkState::Connected);
    room.put("default/pod/p", pod(json!({}))).await;
    let ready = async |room: &Room| {
        let conditions = room.status().await["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
        (found["status"].clone(), found["reason"].clone())
    };
    until("readiness", async || ready(&room).await.0 == "True").await;
    room.fake.fail_lists(Some(tonic::Status::unavailable("down")));
    until("doubt", async || ready(&room).await == (json!("Unknown"), json!("ContainerRuntimeUnavailable")))
        .await;
    assert_eq!(room.status().await["status"]["containerStatuses"][0]["ready"], false);
    assert_eq!(room.status().await["status"]["phase"], "Running");
    until("the node's word", async || room.answers.take().contains(&"status False".to_owned())).await;
    room.fake.fail_lists(None);
    until("readiness again", async || ready(&room).await == (json!("True"), Value::Null)).await;
    assert_eq!(room.fake.running("a").unwrap().attempt(), 0);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_worker_fails_is_looked_after_again_and_told_of() {
    let mut room = Room::new();
    room.events = true;
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    for fault in 1..=2 {
        room.fault.store(true, std::sync::atomic::Ordering::Relaxed);
        room.put("default/pod/p", pod(json!({"terminationGracePeriodSeconds": fault}))).await;
        until("the fault", async || !room.fault.load(std::sync::atomic::Ordering::Relaxed)).await;
        let before = room.fake.running("a").unwrap().attempt();
        room.fake.exit("a", 1);
        until("the next run", async || room.fake.running("a").is_some_and(|a| a.attempt() > before)).await;
    }
    assert!(room.events_of("FailedSync").await > 0, "the pod's owner hears of it");
    room.put("default/pod/p", ending(pod(json!({})))).await;
    until("the deletion", async || room.deletions().await == 1).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_stopped_told_and_leaves_nothing() {
    let mut room = Room::new();
    room.events = true;
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.put("default/pod/p", ending(pod(json!({})))).await;
    until("the deletion", async || room.deletions().await == 1).await;
    assert!(room.ids().is_empty() && room.fake.sandboxes().is_empty());
    let status = room.status().await;
    assert!(status["status"]["containerStatuses"][0]["state"]["terminated"].is_object(), "{status}");
    until("the event of its end", async || room.events_of("Killing").await == 1).await;
    // Restarted before the cloud confirmed: nothing is started, and what was said stands.
    room.stop().await;
    room.start().await;
    pass(Duration::from_secs(20)).await;
    assert_eq!(room.status().await, status);
    assert!(room.fake.sandboxes().is_empty());
    room.apply("default/pod/p", Change::Remove { uid: Some("u-1".into()) }).await;
    until("the pod's folder to go", async || !room.folder.path().join("kubelet/pods/u-1").exists()).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_remains_the_runtime_keeps_is_gone_for_the_api_all_the_same() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.fake.keep_containers(true);
    room.put("default/pod/p", ending(pod(json!({})))).await;
    until("the deletion", async || room.deletions().await == 1).await;
    assert!(room.fake.running("a").is_none());
    room.apply("default/pod/p", Change::Remove { uid: Some("u-1".into()) }).await;
    pass(Duration::from_secs(60)).await;
    assert!(!room.ids().is_empty(), "they are tried again, not forgotten");
    room.fake.keep_containers(false);
    until("nothing left", async || room.fake.sandboxes().is_empty() && room.ids().is_empty()).await;
    assert_eq!(room.deletions().await, 1);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_an_image_is_pulled_and_mounted_by_the_runtime() {
    let mut room = Room::new();
    room.start().await;
    let volume = json!({"name": "tools", "image": {"reference": "causeway.local/tools:1"}});
    let container =
        json!({"name": "a", "image": IMAGE, "volumeMounts": [{"name": "tools", "mountPath": "/tools"}]});
    room.put("default/pod/p", pod(json!({"volumes": [volume], "containers": [container]}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let mounts = room.fake.running("a").unwrap().config.mounts;
    let mount = mounts.iter().find(|mount| mount.container_path == "/tools").unwrap();
    let image = mount.image.clone().unwrap();
    assert_eq!(image.user_specified_image, "causeway.local/tools:1");
    assert!(mount.readonly && mount.host_path.is_empty() && !image.image.is_empty());
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn probes_decide_about_readiness_and_restarts() {
    let mut room = Room::new();
    room.start().await;
    // The fake's only program ends with the code it is given.
    let probe = |code: &str| json!({"exec": {"command": ["exit", code]}, "periodSeconds": 1});
    let container =
        json!({"name": "a", "image": IMAGE, "readinessProbe": probe("1"), "livenessProbe": probe("0")});
    room.put("default/pod/p", pod(json!({"containers": [container]}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    pass(Duration::from_secs(20)).await;
    let status = room.status().await;
    assert_eq!(status["status"]["containerStatuses"][0]["ready"], false, "{status}");
    assert_eq!(status["status"]["containerStatuses"][0]["restartCount"], 0);
    let container =
        json!({"name": "b", "image": IMAGE, "readinessProbe": probe("0"), "livenessProbe": probe("1")});
    let mut other = pod(json!({"containers": [container]}));
    other["metadata"]["uid"] = json!("u-2");
    other["metadata"]["name"] = json!("q");
    room.put("default/pod/q", other).await;
    until("readiness", async || room.status().await["status"]["containerStatuses"][0]["ready"] == true).await;
    until("a restart", async || room.fake.running("b").is_some_and(|b| b.attempt() == 1)).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_told_once_and_again_when_others_changed_it() {
    let mut room = Room::new();
    room.start().await;
    let told = |version: &str, status: Value| {
        let mut pod = pod(json!({"readinessGates": [{"conditionType": "example.com/gate"}]}));
        pod["metadata"]["resourceVersion"] = json!(version);
        pod["status"] = status;
        pod
    };
    let condition = async |room: &Room, kind: &str| {
        let status = room.status().await;
        let conditions = status["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == kind)
            .map(|found| found["status"].clone())
    };
    room.put("default/pod/p", told("1", json!({"phase": "Pending"}))).await;
    until("ready containers", async || condition(&room, "ContainersReady").await == Some(json!("True")))
        .await;
    assert_eq!(condition(&room, "Ready").await, Some(json!("False")));
    let gate = |ready: &str| {
        json!({"phase": "Running", "conditions": [{"type": "example.com/gate", "status": "True"},
            {"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": "True"}]})
    };
    room.put("default/pod/p", told("2", gate("False"))).await;
    until("an open gate", async || condition(&room, "Ready").await == Some(json!("True"))).await;
    assert_eq!(condition(&room, "example.com/gate").await, None, "the gate is not the node's to write");
    let said =
        async |room: &Room| room.sent("/podpatch/").await.last().map(|message| message.header.msg_id.clone());
    pass(Duration::from_secs(2)).await;
    let before = said(&room).await;
    pass(Duration::from_secs(600)).await;
    assert_eq!(said(&room).await, before, "nothing changed, nothing is said");
    room.put("default/pod/p", told("3", gate("False"))).await;
    until("the status said again", async || said(&room).await != before).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_removed_by_force_and_an_unknown_pod_are_killed() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.apply("default/pod/p", Change::Remove { uid: None }).await;
    until("nothing left", async || room.fake.sandboxes().is_empty() && room.ids().is_empty()).await;
    assert_eq!(room.deletions().await, 0);
    // The store forgets a pod while EdgeCore is down.
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.stop().await;
    room.apply("default/pod/p", Change::Remove { uid: None }).await;
    room.start().await;
    until("nothing left", async || room.fake.sandboxes().is_empty() && room.ids().is_empty()).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_config_map_reaches_the_file_of_a_running_pod() {
    let mut room = Room::new();
    room.start().await;
    let map = |text: &str| json!({"metadata": {"name": "m", "namespace": "default", "uid": "m"}, "data": {"k": text}});
    let spec = json!({"volumes": [{"name": "v", "configMap": {"name": "m"}}],
        "containers": [{"name": "a", "image": IMAGE, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]});
    room.put("default/pod/p", pod(spec)).await;
    pass(Duration::from_secs(3)).await;
    assert!(room.fake.running("a").is_none(), "a pod waits for its config map");
    room.put("default/configmap/m", map("1")).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let file = room.folder.path().join("kubelet/pods/u-1/volumes/kubernetes.io~configmap/v/k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1");
    room.put("default/configmap/m", map("2")).await;
    // Long before the next resync.
    let is_new = async || std::fs::read_to_string(&file).unwrap() == "2";
    until_within(Duration::from_secs(30), "the new text", is_new).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_the_pod_runs_again_in_a_new_sandbox() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.stop().await;
    room.fake.reboot();
    room.start().await;
    until("a second run", async || room.fake.running("a").is_some_and(|a| a.attempt() == 1)).await;
    let attempts: Vec<u32> = room
        .fake
        .sandboxes()
        .iter()
        .filter(|sandbox| sandbox.ready)
        .map(|sandbox| sandbox.config.metadata.as_ref().unwrap().attempt)
        .collect();
    assert_eq!(attempts, [1]);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_backs_off_and_a_finished_pod_stays_finished() {
    let mut room = Room::new();
    room.fake.fail_pulls(Some(tonic::Status::unknown("denied")));
    room.start().await;
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "other:1"}]});
    room.put("default/pod/p", pod(spec)).await;
    until("the back-off in the status", async || {
        room.status().await["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
            == "ImagePullBackOff"
    })
    .await;
    room.fake.fail_pulls(None);
    until("a run", async || room.fake.running("a").is_some()).await;
    room.fake.exit("a", 0);
    until("success", async || room.status().await["status"]["phase"] == "Succeeded").await;
    until("the sandbox to stop", async || room.fake.sandboxes().iter().all(|sandbox| !sandbox.ready)).await;
    room.stop().await;
    room.start().await;
    pass(Duration::from_secs(120)).await;
    assert!(room.fake.running("a").is_none());
    assert_eq!(room.status().await["status"]["phase"], "Succeeded");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_network_only_pods_of_the_hosts_network_start() {
    let mut room = Room::new();
    room.fake.set_network_ready(false);
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    let mut host = pod(json!({"hostNetwork": true, "containers": [{"name": "h", "image": IMAGE}]}));
    host["metadata"]["uid"] = json!("u-2");
    host["metadata"]["name"] = json!("h");
    room.put("default/pod/h", host).await;
    until("the host's pod", async || room.fake.running("h").is_some()).await;
    pass(Duration::from_secs(10)).await;
    assert!(room.fake.running("a").is_none());
    room.fake.set_network_ready(true);
    until("the other pod", async || room.fake.running("a").is_some()).await;
    room.stop().await;
}
