//! Pods that wait for what they mount.

use std::time::Duration;

use edgecore::metamanager::LinkState;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::room::*;

const PODS: usize = 6;
/// Who waits for an answer that does not come gives up after 30 s; the rest is what the paused clock gains while disk and
/// sockets work.
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

async fn all_run(room: &Room) {
    until("all pods", async || (0..PODS).all(|number| room.fake.running(&format!("p{number}")).is_some()))
        .await;
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
    let pushed = Instant::now();
    room.put("default/secret/s", secret()).await;
    all_run(&room).await;
    assert!(pushed.elapsed() < LOST, "{:?}", pushed.elapsed());
    room.stop().await;
}
