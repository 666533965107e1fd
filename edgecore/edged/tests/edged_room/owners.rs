//! Several node agents on one container runtime.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::room::*;

const MARK: &str = "causeway.io/node-root";

/// A sandbox that somebody made, with the mark of the installation at `root`.
async fn sandbox(room: &Room, uid: &str, root: Option<&Path>) {
    let mut labels = HashMap::from([
        (cri::labels::POD_UID.to_owned(), uid.to_owned()),
        (cri::labels::POD_NAME.to_owned(), uid.to_owned()),
        (cri::labels::POD_NAMESPACE.to_owned(), "default".to_owned()),
    ]);
    labels.extend(root.map(|root| (MARK.to_owned(), root.display().to_string())));
    let metadata =
        cri::v1::PodSandboxMetadata { name: uid.to_owned(), uid: uid.to_owned(), ..Default::default() };
    let config = cri::v1::PodSandboxConfig { metadata: Some(metadata), labels, ..Default::default() };
    let runtime = cri::Runtime::new(&room.fake.endpoint()).unwrap();
    runtime.run_pod_sandbox(config, "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pods_of_other_node_agents_are_left_alone_and_own_leftovers_go() {
    let mut room = Room::new();
    let root = room.folder.path().join("kubelet");
    sandbox(&room, "of-another", Some(Path::new("/elsewhere/kubelet"))).await;
    sandbox(&room, "of-a-kubelet", None).await;
    sandbox(&room, "own-leftover", Some(&root)).await;
    sandbox(&room, "of-an-older-version", None).await;
    std::fs::create_dir_all(root.join("pods/of-an-older-version")).unwrap();
    room.start().await;
    room.put("default/pod/p", pod(json!({}))).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    pass(Duration::from_secs(200)).await;
    let labels = room.fake.sandboxes().into_iter().map(|sandbox| sandbox.config.labels);
    let left: BTreeSet<String> = labels.map(|labels| labels[cri::labels::POD_UID].clone()).collect();
    assert_eq!(left, BTreeSet::from(["of-a-kubelet", "of-another", "u-1"].map(str::to_owned)));
    let run = room.fake.running("a").unwrap();
    assert_eq!(run.config.labels[MARK], root.display().to_string());
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn beside_another_node_agent_only_images_pulled_here_go_and_none_that_a_container_uses() {
    let mut room = Room::new();
    room.image_age = Duration::from_secs(600);
    room.fake.add_image("theirs:1");
    sandbox(&room, "of-another", Some(Path::new("/elsewhere/kubelet"))).await;
    room.start().await;
    let brief = json!({"containers": [{"name": "a", "image": "pulled:1"}]});
    room.put("default/pod/p", pod(brief)).await;
    until("a run", async || room.fake.running("a").is_some()).await;
    room.apply("default/pod/p", metamanager::Change::Remove { uid: None }).await;
    until("no run", async || room.fake.containers().is_empty()).await;
    pass(Duration::from_secs(1200)).await;
    until("the own image to go", async || !images(&room).await.contains("pulled:1")).await;
    assert!(images(&room).await.contains("theirs:1"), "a pod of theirs may need it");
    // Alone, this node agent keeps house for the runtime.
    let theirs =
        room.fake.sandboxes().into_iter().find(|sandbox| sandbox.config.labels[MARK] == "/elsewhere/kubelet");
    let runtime = cri::Runtime::new(&room.fake.endpoint()).unwrap();
    runtime.remove_pod_sandbox(&theirs.unwrap().id).await.unwrap();
    pass(Duration::from_secs(1200)).await;
    until("what nobody uses to go", async || !images(&room).await.contains("theirs:1")).await;
    room.stop().await;
}

/// Tags of the images the runtime has.
async fn images(room: &Room) -> BTreeSet<String> {
    let runtime = cri::Runtime::new(&room.fake.endpoint()).unwrap();
    runtime.list_images().await.unwrap().into_iter().flat_map(|image| image.repo_tags).collect()
}
