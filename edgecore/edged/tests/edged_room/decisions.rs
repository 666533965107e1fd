//! Pods that the node refuses, ends or lets wait; guests in running pods.

use std::time::Duration;

use metamanager::{Change, LinkState, Objects};
use nodebase::settings::logind::Programs;
use serde_json::{Value, json};

use crate::room::*;

fn cpu(amount: &str) -> Value {
    json!({"containers": [{"name": "a", "image": IMAGE, "resources": {"requests": {"cpu": amount}}}]})
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_fails_for_good_and_is_never_started() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(cpu("1500m"))).await;
    until("the first pod to run", async || room.fake.running("a").is_some()).await;
    room.put("default/pod/q", named("q", "u-2", pod(cpu("600m")))).await;
    let refused = async |room: &Room| {
        let status = room.status_of("q").await["status"].clone();
        (status["phase"].clone(), status["reason"].clone())
    };
    until("the refusal", async || refused(&room).await == (json!("Failed"), json!("OutOfcpu"))).await;
    let status = room.status_of("q").await;
    let text = status["status"]["message"].as_str().unwrap();
    assert!(text.contains("cpu, requested: 600, used: 1500, capacity: 2000"), "{text}");
    assert!(status["status"]["containerStatuses"].is_null(), "{status}");
    // There is room now, and the node starts again with what the cloud sent first: the pod has failed.
    room.apply("default/pod/p", Change::Remove { uid: None }).await;
    until("the first pod to go", async || room.fake.sandboxes().is_empty()).await;
    room.stop().await;
    room.start().await;
    pass(Duration::from_secs(200)).await;
    assert!(room.fake.sandboxes().is_empty());
    assert_eq!(refused(&room).await, (json!("Failed"), json!("OutOfcpu")));
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_admitted_stays_although_it_would_not_be_admitted_again() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({"nodeSelector": {"kubernetes.io/os": "linux"}}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let before = room.ids();
    room.stop().await;
    let node = json!({"metadata": {"name": "edge-1", "labels": {"kubernetes.io/os": "other"}}});
    room.answers.set_node(node.clone());
    room.put("null/node/edge-1", node).await;
    room.link.send_replace(LinkState::Connected);
    room.start().await;
    pass(Duration::from_secs(30)).await;
    assert_eq!(room.ids(), before);
    assert_eq!(room.status().await["status"]["phase"], "Running");
    // A new one is not let in.
    let other = pod(json!({"nodeSelector": {"kubernetes.io/os": "linux"}}));
    room.put("default/pod/q", named("q", "u-2", other)).await;
    until("the refusal", async || room.status_of("q").await["status"]["reason"] == "NodeAffinity").await;
    room.stop().await;
}

/// The node with a taint that drives pods away, or without.
fn node(is_tainted: bool) -> Value {
    let taint = json!({"key": "example.com/broken", "effect": "NoExecute"});
    let taints = if is_tainted { json!([taint]) } else { json!([]) };
    json!({"metadata": {"name": "edge-1", "uid": "node-uid"}, "spec": {"taints": taints}})
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_is_gone_in_the_cloud_refuses_no_pod() {
    let mut room = Room::new();
    room.put("null/node/edge-1", node(true)).await;
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    // The pod comes before the node that lets it in.
    room.answers.set_node(node(false));
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    // What the cloud says as well is true.
    room.answers.set_node(node(true));
    room.put("null/node/edge-1", node(true)).await;
    room.put("default/pod/q", named("q", "u-2", pod(json!({})))).await;
    until("the refusal", async || room.status_of("q").await["status"]["reason"] == "TaintToleration").await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_cannot_be_asked_about_keeps_a_pod_waiting_until_it_is_known() {
    let mut room = Room::new();
    room.put("null/node/edge-1", node(true)).await;
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    room.put("default/pod/q", named("q", "u-2", pod(json!({})))).await;
    pass(Duration::from_secs(100)).await;
    assert_eq!((room.status().await, room.fake.sandboxes().len()), (Value::Null, 0));
    room.apply("default/pod/q", Change::Remove { uid: None }).await;
    room.put("null/node/edge-1", node(false)).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    // One that waits while the cloud does not answer hears of it when it does.
    room.put("null/node/edge-1", node(true)).await;
    room.answers.set_node(node(true));
    room.answers.set_away(true);
    room.link.send_replace(LinkState::Connected);
    room.put("default/pod/r", named("r", "u-3", pod(json!({})))).await;
    pass(Duration::from_secs(20)).await;
    assert_eq!(room.status_of("r").await, Value::Null);
    room.answers.set_away(false);
    until("the refusal", async || room.status_of("r").await["status"]["reason"] == "TaintToleration").await;
    assert_eq!(room.status_of("q").await, Value::Null);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_critical_pod_pushes_a_lesser_one_aside() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(cpu("1500m"))).await;
    until("the lesser pod", async || room.fake.running("a").is_some()).await;
    let mut critical = cpu("1");
    critical["containers"][0]["name"] = json!("b");
    critical["priority"] = json!(2_000_000_000);
    room.put("default/pod/q", named("q", "u-2", pod(critical))).await;
    until("the critical pod", async || room.fake.running("b").is_some()).await;
    until("the end of the lesser", async || room.status_of("p").await["status"]["reason"] == "Preempting")
        .await;
    let status = room.status_of("p").await;
    let conditions = status["status"]["conditions"].as_array().unwrap();
    let disrupted = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget");
    assert_eq!(disrupted.unwrap()["reason"], "TerminationByKubelet");
    assert!(room.fake.running("a").is_none());
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_pod_counts_from_its_first_start_over_restarts() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({"activeDeadlineSeconds": 300}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    pass(Duration::from_secs(200)).await;
    let began = room.status().await["status"]["startTime"].clone();
    room.stop().await;
    room.start().await;
    pass(Duration::from_secs(10)).await;
    assert!(room.fake.running("a").is_some());
    until("the end", async || room.fake.running("a").is_none()).await;
    until("the reason", async || room.status().await["status"]["reason"] == "DeadlineExceeded").await;
    let status = room.status().await;
    assert_eq!((&status["status"]["phase"], &status["status"]["startTime"]), (&json!("Failed"), &began));
    pass(Duration::from_secs(200)).await;
    assert!(room.fake.running("a").is_none());
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_of_pods_that_went_while_edgecore_was_down_is_forgotten() {
    let mut room = Room::new();
    let objects = Objects::new(room.store.clone());
    for kind in ["podrecord", "serviceaccounttoken"] {
        let (uid, row) = ("0f0f0f0f-0000-4000-8000-000000000000", "{}");
        objects.put_local(format!("{kind}/{uid}"), kind, uid.to_owned(), row.to_owned()).await.unwrap();
    }
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let kept = async |kind| objects.local_owners(kind).await.unwrap();
    until("only the living pod's record", async || kept("podrecord").await == ["u-1"]).await;
    until("no token", async || kept("serviceaccounttoken").await.is_empty()).await;
    pass(Duration::from_secs(200)).await;
    assert_eq!(kept("podrecord").await, ["u-1"]);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_joins_its_target_once() {
    let mut room = Room::new();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let guest = json!([{"name": "debugger", "image": IMAGE, "targetContainerName": "a"}]);
    room.put("default/pod/p", pod(json!({"ephemeralContainers": guest}))).await;
    until("the guest", async || room.fake.running("debugger").is_some()).await;
    let config = room.fake.running("debugger").unwrap().config;
    let options = config.linux.unwrap().security_context.unwrap().namespace_options.unwrap();
    assert_eq!(options.target_id, room.fake.running("a").unwrap().id);
    assert_eq!(options.pid(), cri::v1::NamespaceMode::Target);
    room.fake.exit("debugger", 3);
    let ended = async |room: &Room| {
        let status = room.status().await;
        status["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"].clone()
    };
    until("its end in the status", async || ended(&room).await == json!(3)).await;
    pass(Duration::from_secs(100)).await;
    assert!(room.fake.running("debugger").is_none());
    assert_eq!(room.status().await["status"]["phase"], "Running");
    room.stop().await;
}

/// A pod of a controller with a memory request, named by its container.
fn controlled(name: &str) -> Value {
    let containers = json!([{"name": name, "image": IMAGE, "resources": {"requests": {"memory": "64Mi"}}}]);
    let mut pod = named(name, &format!("u-{name}"), pod(json!({"containers": containers})));
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]);
    pod
}

#[tokio::test(start_paused = true)]
async fn under_pressure_without_a_link_a_pod_of_a_controller_waits_and_comes_back() {
    let mut room = Room::new();
    room.machine.set_memory_left(2048);
    room.start().await;
    room.put("default/pod/p", controlled("p")).await;
    until("a run", async || room.fake.running("p").is_some()).await;
    room.machine.set_memory_left(50);
    until("the end of the run", async || room.fake.running("p").is_none()).await;
    until("the reason", async || room.status_of("p").await["status"]["reason"] == "Evicted").await;
    assert_ne!(room.status_of("p").await["status"]["phase"], "Failed");
    // A pod without requests is not let in meanwhile.
    room.put("default/pod/q", named("q", "u-2", pod(json!({})))).await;
    until("the refusal", async || room.status_of("q").await["status"]["reason"] == "Evicted").await;
    room.machine.set_memory_left(2048);
    pass(Duration::from_secs(100)).await;
    assert!(room.fake.running("p").is_none(), "pressure lasts for five minutes");
    until("the next run", async || room.fake.running("p").is_some()).await;
    until("no reason any more", async || room.status_of("p").await["status"]["reason"].is_null()).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_not_run_alone_for_long_is_held_without_a_link_and_goes_on_with_one() {
    let mut room = Room::new();
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    let mut fenced = pod(json!({}));
    fenced["metadata"]["annotations"] = json!({"causeway.io/longest-offline": "10m"});
    room.put("default/pod/p", fenced).await;
    room.put(
        "default/pod/q",
        named("q", "u-2", pod(json!({"containers": [{"name": "other", "image": IMAGE}]}))),
    )
    .await;
    until("both run", async || room.fake.running("a").is_some() && room.fake.running("other").is_some())
        .await;
    room.link.send_replace(LinkState::Disconnected);
    pass(Duration::from_secs(300)).await;
    // The time does not begin anew with EdgeCore.
    room.stop().await;
    room.start().await;
    pass(Duration::from_secs(240)).await;
    assert!(room.fake.running("a").is_some());
    until_within(Duration::from_secs(120), "the end of the run", async || room.fake.running("a").is_none())
        .await;
    until("the reason", async || room.status().await["status"]["reason"] == "NodeOffline").await;
    assert_ne!(room.status().await["status"]["phase"], "Failed");
    assert!(room.fake.running("other").is_some());
    room.link.send_replace(LinkState::Connected);
    pass(Duration::from_secs(5)).await;
    assert!(room.fake.running("a").is_none(), "the cloud may have taken it away");
    until("the next run", async || room.fake.running("a").is_some()).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn under_pressure_with_a_link_a_pod_is_evicted_and_critical_ones_stay() {
    let mut room = Room::new();
    room.machine.set_memory_left(2048);
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    let mut critical = controlled("c");
    critical["spec"]["priority"] = json!(2_000_001_000);
    room.put("default/pod/c", critical).await;
    room.put("default/pod/p", controlled("p")).await;
    until("runs", async || room.fake.running("p").is_some() && room.fake.running("c").is_some()).await;
    room.machine.set_memory_left(50);
    until("the eviction", async || room.status_of("p").await["status"]["phase"] == "Failed").await;
    let status = room.status_of("p").await;
    let text = status["status"]["message"].as_str().unwrap();
    assert!(text.starts_with("The node was low on resource: memory."), "{text}");
    until("the condition of the node", async || {
        room.answers.take().contains(&"status True memory".to_owned())
    })
    .await;
    pass(Duration::from_secs(60)).await;
    assert!(room.fake.running("c").is_some());
    room.stop().await;
}

/// Programs in place of systemd-inhibit and busctl: the one that holds the lock notes that it began, the other prints
/// what the test has written for it.
fn logind(folder: &std::path::Path) -> Programs {
    use std::os::unix::fs::PermissionsExt;
    let script = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let place = folder.display();
    Programs {
        inhibit: script("inhibit", format!("#!/bin/sh\necho $$ >> {place}/held\nexec cat\n")),
        monitor: script("monitor", format!("#!/bin/sh\nexec tail -n +1 -f {place}/said\n")),
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_pods_and_they_start_again_when_it_is_called_off() {
    let mut room = Room::new();
    let folder = room.folder.path().to_owned();
    std::fs::write(folder.join("said"), "").unwrap();
    room.shutdown = Some((Duration::from_secs(30), logind(&folder)));
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let held = || std::fs::read_to_string(folder.join("held")).unwrap_or_default().lines().count();
    until_real("the lock", || held() == 1).await;
    std::fs::write(folder.join("said"), "  BOOLEAN true;\n").unwrap();
    until_real("the end of the pod", || room.fake.running("a").is_none()).await;
    until("the reason", async || room.status().await["status"]["reason"] == "Terminated").await;
    assert_ne!(room.status().await["status"]["phase"], "Failed");
    let first = std::fs::read_to_string(folder.join("held")).unwrap();
    until_real("the lock given up", || !std::path::Path::new(&format!("/proc/{}/fd", first.trim())).exists())
        .await;
    // A pod that comes now is not let in.
    room.put("default/pod/q", named("q", "u-2", pod(json!({})))).await;
    until("the refusal", async || room.status_of("q").await["status"]["reason"] == "NodeShutdown").await;
    let mut said = std::fs::OpenOptions::new().append(true).open(folder.join("said")).unwrap();
    std::io::Write::write_all(&mut said, b"  BOOLEAN false;\n").unwrap();
    until_real("the next run", || room.fake.running("a").is_some()).await;
    until_real("the lock again", || held() == 2).await;
    room.stop().await;
}
