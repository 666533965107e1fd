//! Pods that wait for what they mount.

use std::time::Duration;

use message::{Json, ObjectKey, ResourceVersion};
use metamanager::sealed::{Sealer, Seals, key};
use metamanager::{Change, LinkState, ObjectChange, Objects};
use serde_json::{Value, json};

use crate::room::*;

const PODS: usize = 6;
/// Who waits for an answer that does not come gives up after 30 s.
const LOST: Duration = Duration::from_secs(28);

fn secret() -> Value {
    json!({"metadata": {"name": "s", "namespace": "default", "uid": "s", "resourceVersion": "7"}, "data": {"k": "dg=="}})
}

/// Pods whose container, named like them, reads one secret.
async fn put_readers(room: &mut Room) {
    for number in 0..PODS {
        let name = format!("p{number}");
        let container =
            json!({"name": name, "image": IMAGE, "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let spec =
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}], "containers": [container]});
        room.put(&format!("default/pod/{name}"), named(&name, &format!("u-{number}"), pod(spec))).await;
    }
}

fn are_running(room: &Room) -> bool {
    (0..PODS).all(|number| room.fake.running(&format!("p{number}")).is_some())
}

async fn all_run(room: &Room) {
    until("all pods", async || are_running(room)).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_mount_one_secret_share_one_question_for_it() {
    let mut room = Room::new();
    room.link.send_replace(LinkState::Connected);
    room.answers.set_object("default/secret/s", secret());
    put_readers(&mut room).await;
    room.start().await;
    all_run(&room).await;
    let asked = room.answers.take().iter().filter(|what| *what == "ask s").count();
    assert_eq!(asked, 1);
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_pushed_ends_the_wait_for_an_answer() {
    let mut room = Room::new();
    room.link.send_replace(LinkState::Connected);
    room.answers.set_object("default/secret/s", Value::Null);
    room.start().await;
    put_readers(&mut room).await;
    until("the question", async || room.answers.take().contains(&"ask s".to_owned())).await;
    room.put("default/secret/s", secret()).await;
    until_within(LOST, "all pods", async || are_running(&room)).await;
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_sealed_and_does_not_open_is_asked_for_and_never_reaches_a_pod() {
    let mut room = Room::new();
    let key = key::read_or_make(&room.folder.path().join("key")).unwrap();
    let sealing = Objects::sealing(room.store.clone(), Seals::with(Sealer::new(&key)));
    let object = Json::encode(&secret()).unwrap();
    let change = Change::Put { version: ResourceVersion("7".into()), object };
    let key = ObjectKey::parse("default/secret/s").unwrap();
    sealing.apply(vec![ObjectChange { key, change }]).await.unwrap();
    room.link.send_replace(LinkState::Connected);
    room.answers.set_object("default/secret/s", secret());
    put_readers(&mut room).await;
    room.start().await;
    all_run(&room).await;
    assert_eq!(room.answers.take().iter().filter(|what| *what == "ask s").count(), 1);
    let file = room.folder.path().join("kubelet/pods/u-0/volumes/kubernetes.io~secret/v/k");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "v");
    room.stop().await;
}
