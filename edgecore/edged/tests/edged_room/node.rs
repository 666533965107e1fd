//! The node: registered, told, leased.

use std::time::Duration;

use metamanager::LinkState;
use serde_json::json;

use crate::room::*;

#[tokio::test(start_paused = true)]
async fn the_node_is_registered_told_and_leased_at_each_connection_and_silent_without_one() {
    let mut room = Room::new();
    room.start().await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(room.answers.take(), Vec::<String>::new());
    room.link.send_replace(LinkState::Connected);
    pass(Duration::from_secs(1)).await;
    let mut first = room.answers.take();
    assert_eq!(first.remove(0), "create true");
    first.sort();
    assert_eq!(first, ["lease node-uid", "status True"]);
    pass(Duration::from_secs(60)).await;
    let steady = room.answers.take();
    assert!(
        steady.iter().all(|what| what == "lease node-uid") && (5..8).contains(&steady.len()),
        "{steady:?}"
    );
    room.fake.set_network_ready(false);
    pass(Duration::from_secs(10)).await;
    assert!(room.answers.take().contains(&"status False".to_owned()));
    room.link.send_replace(LinkState::Disconnected);
    pass(Duration::from_secs(60)).await;
    assert_eq!(room.answers.take(), Vec::<String>::new());
    room.link.send_replace(LinkState::Connected);
    pass(Duration::from_secs(1)).await;
    assert_eq!(room.answers.take().len(), 3);
    room.stop().await;
}

/// Far less than the five minutes after which an unchanged status is told.
const SECONDS: Duration = Duration::from_secs(20);

/// What is told of the node, without its lease.
fn statuses(room: &Room) -> Vec<String> {
    room.answers.take().into_iter().filter(|what| what.starts_with("status")).collect()
}

fn is_told(room: &Room) -> bool {
    statuses(room).contains(&"status True".to_owned())
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_the_api_the_status_is_told_again_within_seconds() {
    let mut room = Room::new();
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    pass(Duration::from_secs(60)).await;
    room.answers.take();
    room.answers.set_away(true);
    pass(Duration::from_secs(90)).await;
    assert_eq!(room.answers.take(), Vec::<String>::new());
    room.answers.set_away(false);
    until_within(SECONDS, "the status told again", async || is_told(&room)).await;
    pass(Duration::from_secs(120)).await;
    assert_eq!(statuses(&room), Vec::<String>::new(), "it is told once");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pushed_node_that_contradicts_what_was_told_is_answered_within_seconds() {
    let mut room = Room::new();
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    pass(Duration::from_secs(60)).await;
    let unheard = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
    let condition = |status: &str| json!([{"type": "Ready", "status": status}]);
    let table = [
        json!({"status": {"conditions": condition("Unknown")}}),
        json!({"spec": {"taints": [unheard]}, "status": {"conditions": condition("True")}}),
    ];
    for mut node in table {
        statuses(&room);
        node["metadata"] = json!({"name": "edge-1", "uid": "node-uid"});
        room.put("null/node/edge-1", node).await;
        until_within(SECONDS, "the status told again", async || is_told(&room)).await;
    }
    let agreeing = json!({"metadata": {"name": "edge-1", "uid": "node-uid"}, "status": {"conditions": condition("True")}});
    room.put("null/node/edge-1", agreeing).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(statuses(&room), Vec::<String>::new(), "what is right needs no answer");
    room.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_address_is_told_of_the_node_and_of_pods_in_its_network() {
    let mut room = Room::new();
    room.machine.set_address("10.77.0.5");
    room.start().await;
    room.link.send_replace(LinkState::Connected);
    room.put("default/pod/p", pod(json!({"hostNetwork": true}))).await;
    let addresses = async |room: &Room| {
        let status = room.status().await["status"].clone();
        (status["hostIP"].clone(), status["podIP"].clone(), status["podIPs"][1]["ip"].clone())
    };
    let all = |ip: &str| (json!(ip), json!(ip), json!(ip));
    until("the first address", async || addresses(&room).await == all("10.77.0.5")).await;
    assert_eq!(room.answers.told()["addresses"][1]["address"], "10.77.0.5");
    for next in ["10.77.0.6", "fd00::6"] {
        room.machine.set_address(next);
        until("the pod's", async || addresses(&room).await == all(next)).await;
        until("the node's", async || room.answers.told()["addresses"][1]["address"] == next).await;
    }
    room.stop().await;
}
