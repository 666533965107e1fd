//! Volumes that cannot be made, and names that must not become paths.

use std::collections::BTreeMap;
use std::time::Duration;

use metamanager::Change;
use serde_json::{Value, json};

use crate::room::*;

/// How often a pod was told that its volumes cannot be made, and the last text.
async fn failed_mounts(room: &Room) -> (u64, String) {
    let messages = room.sent("/event/").await;
    let events = messages.iter().map(|message| serde_json::from_str(&message.content.data()).unwrap());
    let failed = events.filter(|event: &Value| event["reason"] == "FailedMount");
    let (mut counts, mut last) = (BTreeMap::new(), String::new());
    for event in failed {
        counts.insert(event["metadata"]["name"].to_string(), event["count"].as_u64().unwrap());
        last = event["message"].as_str().unwrap().to_owned();
    }
    (counts.values().sum(), last)
}

fn with_volume(volume: Value) -> Value {
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    pod(json!({"containers": [{"name": "a", "image": IMAGE, "volumeMounts": mounts}], "volumes": [volume]}))
}

#[tokio::test(start_paused = true)]
async fn a_payload_whose_paths_collide_leaves_nothing_and_is_tried_ever_more_rarely() {
    let mut room = Room::new();
    room.events = true;
    let map = |key: &str| json!({"metadata": {"name": "c", "namespace": "default"}, "data": {key: "text"}});
    room.put("default/configmap/one", map("a")).await;
    room.put("default/configmap/two", map("k")).await;
    room.start().await;
    let sources = json!([{"configMap": {"name": "one"}},
        {"configMap": {"name": "two", "items": [{"key": "k", "path": "a/b"}]}}]);
    room.put("default/pod/p", with_volume(json!({"name": "v", "projected": {"sources": sources}}))).await;
    pass(Duration::from_secs(600)).await;
    let (attempts, told) = failed_mounts(&room).await;
    assert!((5..=20).contains(&attempts), "{attempts} attempts in ten minutes");
    for part in ["\"a\"", "\"a/b\"", "ConfigMap \"one\"", "ConfigMap \"two\"", "tried again in"] {
        assert!(told.contains(part), "{part} is not in {told:?}");
    }
    let volume = room.folder.path().join("kubelet/pods/u-1/volumes/kubernetes.io~projected/v");
    let left = std::fs::read_dir(volume).map_or(0, |entries| entries.count());
    assert_eq!(left, 0);
    // What was wrong is mended in the API: nobody waits for the next turn.
    room.put("default/configmap/one", map("c")).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    // Its memory is given back with the pod.
    room.apply("default/pod/p", Change::Remove { uid: None }).await;
    until("the end", async || !room.folder.path().join("kubelet/pods/u-1").exists()).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_relative_host_path_never_reaches_the_runtime_and_the_pod_says_why() {
    let mut room = Room::new();
    room.events = true;
    room.start().await;
    room.put("default/pod/p", with_volume(json!({"name": "v", "hostPath": {"path": "relative/path"}}))).await;
    pass(Duration::from_secs(60)).await;
    assert!(room.fake.running("a").is_none());
    let (_, told) = failed_mounts(&room).await;
    assert!(told.contains("\"relative/path\"") && told.contains("absolute"), "{told:?}");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn names_that_are_none_fail_the_pod_before_anything_is_made() {
    let mut room = Room::new();
    room.start().await;
    let volumes = json!({"volumes": [{"name": "../../../../outside", "emptyDir": {}}]});
    let containers = json!({"containers": [{"name": "../../../outside", "image": IMAGE}]});
    let guests = json!({"ephemeralContainers": [{"name": "../../../outside", "image": IMAGE}]});
    for (uid, spec) in [("u-1", volumes), ("u-2", containers), ("u-3", guests)] {
        room.put(&format!("default/pod/{uid}"), named(uid, uid, pod(spec))).await;
        until("the refusal", async || room.status_of(uid).await["status"]["phase"] == "Failed").await;
        let status = room.status_of(uid).await["status"].clone();
        let text = status["message"].as_str().unwrap_or_default();
        assert!(status["reason"] == "InvalidPod" && text.contains("outside"), "{status}");
    }
    assert!(room.fake.sandboxes().is_empty());
    let kubelet = room.folder.path().join("kubelet");
    assert!(!kubelet.join("outside").exists() && !room.folder.path().join("outside").exists());
    room.stop().await;
}
