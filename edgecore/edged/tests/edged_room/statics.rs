//! Pods from files and their mirrors.

use std::time::Duration;

use metamanager::{Change, LinkState};
use serde_json::{Value, json};

use crate::room::*;

const KEY: &str = "default/pod/web-edge-1";

fn manifest(room: &Room, container: &str) {
    let folder = room.folder.path().join("manifests");
    std::fs::create_dir_all(&folder).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [{"name": container, "image": IMAGE}]}});
    std::fs::write(folder.join("web.json"), pod.to_string()).unwrap();
}

fn mirrored(room: &Room) -> Vec<String> {
    let about = |what: &String| what.starts_with("make") || what.starts_with("delete");
    room.answers.take().into_iter().filter(about).collect()
}

/// The mirror as it comes back from the cloud.
fn mirror(uid: &str, hash: &Value, ready: &str) -> Value {
    json!({"metadata": {"name": "web-edge-1", "namespace": "default", "uid": uid,
            "annotations": {"kubernetes.io/config.source": "file", "kubernetes.io/config.mirror": hash}},
        "spec": {"nodeName": "edge-1", "containers": [{"name": "a", "image": IMAGE}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_runs_without_a_cloud_and_is_mirrored_when_there_is_one() {
    let mut room = Room::new();
    manifest(&room, "a");
    room.start().await;
    until("a run", async || room.fake.running("a").is_some()).await;
    assert!(room.sent("/podpatch/").await.is_empty(), "nobody knows the pod yet");
    room.link.send_replace(LinkState::Connected);
    until("the status at the mirror", async || room.status().await["metadata"]["uid"] == "mirror-0").await;
    assert_eq!(mirrored(&room), ["make web-edge-1 \"node-uid\""]);
    // A restart adopts it, also before the mirror is known again.
    let before = room.ids();
    room.stop().await;
    room.link.send_replace(LinkState::Disconnected);
    room.start().await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(room.ids(), before);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_a_mirror_does_not_stop_the_pod() {
    let mut room = Room::new();
    manifest(&room, "a");
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    until("the status at the mirror", async || room.status().await["metadata"]["uid"] == "mirror-0").await;
    until("a run", async || room.fake.running("a").is_some()).await;
    let before = room.ids();
    let hash = json!(room.fake.sandboxes()[0].config.metadata.as_ref().unwrap().uid);
    // Said not ready by others: told again.
    let last =
        async |room: &Room| room.sent("/podpatch/").await.last().map(|message| message.header.msg_id.clone());
    pass(Duration::from_secs(5)).await;
    let said = last(&room).await;
    room.put(KEY, mirror("mirror-0", &hash, "False")).await;
    until("the status told again", async || last(&room).await != said).await;
    // Asked to end: the mirror goes and a new one comes.
    let mut ending = mirror("mirror-0", &hash, "True");
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    mirrored(&room);
    room.put(KEY, ending).await;
    until("the status at the new mirror", async || room.status().await["metadata"]["uid"] == "mirror-1")
        .await;
    assert_eq!(mirrored(&room), ["delete mirror-0", "make web-edge-1 \"node-uid\""]);
    room.apply(KEY, Change::Remove { uid: Some("mirror-0".into()) }).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!((room.ids(), mirrored(&room)), (before, Vec::new()));
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_another_pod_and_a_removed_one_is_the_end() {
    let mut room = Room::new();
    manifest(&room, "a");
    room.start().await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.link.send_replace(LinkState::Connected);
    until("the status at the mirror", async || room.status().await["metadata"]["uid"] == "mirror-0").await;
    manifest(&room, "b");
    until("the new pod", async || room.fake.running("b").is_some()).await;
    assert!(room.fake.running("a").is_none(), "two pods of one name never run side by side");
    until("the status at its mirror", async || room.status().await["metadata"]["uid"] == "mirror-1").await;
    std::fs::remove_file(room.folder.path().join("manifests/web.json")).unwrap();
    until("nothing left", async || room.fake.sandboxes().is_empty()).await;
    until("no mirror either", async || mirrored(&room).contains(&"delete mirror-1".to_owned())).await;
    room.stop().await;
}

fn named_manifest(room: &Room, name: &str, container: &str) {
    let folder = room.folder.path().join("manifests");
    std::fs::create_dir_all(&folder).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": container, "image": IMAGE}]}});
    std::fs::write(folder.join(format!("{name}.json")), pod.to_string()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_the_api_refuses_leaves_the_others_and_is_tried_ever_more_rarely() {
    let mut room = Room::new();
    named_manifest(&room, "unwanted", "u");
    named_manifest(&room, "web", "a");
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    until("both run", async || room.fake.running("a").is_some() && room.fake.running("u").is_some()).await;
    let mut seen = Vec::new();
    until("the mirror of the other", async || {
        seen.extend(room.answers.take());
        seen.iter().any(|what| what.starts_with("make web-edge-1"))
    })
    .await;
    pass(Duration::from_secs(600)).await;
    seen.extend(room.answers.take());
    let refused = seen.iter().filter(|what| *what == "refuse unwanted-edge-1").count();
    assert!((2..=10).contains(&refused), "{refused} times in ten minutes");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_manifest_with_bad_names_makes_nothing_hides_no_other_and_is_told_of() {
    let mut room = Room::new();
    room.events = true;
    named_manifest(&room, "bad", "../../../outside");
    named_manifest(&room, "web", "a");
    room.start().await;
    until("a run", async || room.fake.running("a").is_some()).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(room.fake.sandboxes().len(), 1);
    assert!(!room.folder.path().join("kubelet/outside").exists());
    let told = room.last_event("InvalidManifest").await["message"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("bad.json") && told.contains("spec.containers[0].name"), "{told:?}");
    room.stop().await;
}
