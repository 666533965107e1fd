//! What an edge of KubeEdge sees of CloudCore: recorded messages in raw WebSocket frames.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::go_edge::{Lab, NODE, message};
use e2e::{peer, recorded};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::{Value, json};

/// `operation resource` of messages that carry objects.
fn objects(messages: &[Value]) -> Vec<String> {
    let text = |message: &Value, field: &str| message["route"][field].as_str().unwrap_or_default().to_owned();
    let mut objects: Vec<String> = messages
        .iter()
        .filter(|message| {
            message["route"]["group"] == "resource" && message["header"]["parent_msg_id"].is_null()
        })
        .map(|message| format!("{} {}", text(message, "operation"), text(message, "resource")))
        .collect();
    objects.sort();
    objects.dedup();
    objects
}

fn manifests() -> String {
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default"}, "data": {"text": "x".repeat(20_000)}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none",
            "envFrom": [{"configMapRef": {"name": "c"}}]}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [config_map, pod]}).to_string()
}

#[test]
fn a_go_edge_gets_its_objects_once_and_again_only_what_changed_or_when_it_starts_over() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        let registered =
            edge.answer(&recorded::with_id("005-up-edged-meta-insert-node.json", "register")?).await?;
        ensure!(registered["content"]["Object"]["metadata"]["name"] == NODE, "{registered}");
        lab.cloud.kubectl().apply(&manifests())?;
        let first = edge.read(true).await?;
        let expected = [
            "insert default/configmap/c",
            "insert default/configmap/kube-root-ca.crt",
            "insert default/pod/p",
            "update null/node/edge1",
        ];
        ensure!(
            objects(&edge.received).iter().map(String::as_str).eq(expected),
            "{:?}",
            objects(&edge.received)
        );
        for message in &first {
            let carries =
                message["route"]["operation"] != "response" && message["route"]["group"] == "resource";
            ensure!(!carries || message["header"]["resourceversion"].is_string(), "{message}");
            ensure!(!carries || message["content"]["kind"].is_string(), "{message}");
        }
        wait::for_true("every acknowledgement is recorded", PATIENCE, || Ok(lab.records()?.len() >= 4))?;

        // The same process connects again: nothing changed, nothing comes.
        drop(edge);
        let mut edge = lab.connect().await?;
        let quiet = objects(&edge.read(true).await?);
        ensure!(quiet.is_empty(), "sent again: {quiet:?}");
        // What changes comes, as an update.
        lab.cloud.kubectl().run(&["patch", "configmap", "c", "-p", "{\"data\":{\"text\":\"y\"}}"])?;
        ensure!(objects(&edge.read(true).await?) == ["update default/configmap/c"]);
        // A write that changes nothing for the node does not.
        lab.cloud.kubectl().run(&[
            "patch",
            "pod",
            "p",
            "--subresource=status",
            "-p",
            "{\"status\":{\"phase\":\"Running\"}}",
        ])?;
        ensure!(objects(&edge.read(true).await?).is_empty());
        // EdgeCore starts over, perhaps on an empty disk: it registers, and gets everything.
        edge.send(&recorded::with_id("005-up-edged-meta-insert-node.json", "again")?).await?;
        let all = objects(&edge.read(true).await?);
        ensure!(all.len() == 4, "{all:?}");
        // A deletion while it is away is caught up with.
        drop(edge);
        lab.cloud.kubectl().run(&["delete", "pod", "p", "--force", "--grace-period=0"])?;
        let mut edge = lab.connect().await?;
        let missed = edge.read(true).await?;
        ensure!(
            objects(&missed).iter().any(|object| object == "delete default/pod/p"),
            "{:?}",
            objects(&missed)
        );
        let deletion =
            missed.iter().find(|message| message["route"]["operation"] == "delete").context("one")?;
        ensure!(deletion["content"]["metadata"]["uid"].is_string(), "{deletion}");
        wait::for_true("the record of the pod is gone", PATIENCE, || {
            Ok(lab.records()?.iter().all(|record| !record.starts_with("Pod ")))
        })
    })
}

#[test]
fn an_unacknowledged_message_comes_again_under_its_id() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        edge.answer(&recorded::with_id("005-up-edged-meta-insert-node.json", "register")?).await?;
        edge.read(true).await?;
        lab.cloud.kubectl().apply(&manifests())?;
        let first = edge.read(false).await?;
        let id = |messages: &[Value]| {
            let pod = messages.iter().find(|message| message["route"]["resource"] == "default/pod/p");
            pod.map(|message| message["header"]["msg_id"].clone())
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        let again = edge.read(true).await?;
        ensure!(id(&first).is_some() && id(&first) == id(&again), "{:?} and {:?}", id(&first), id(&again));
        Ok(())
    })
}

#[test]
fn fragments_are_joined_questions_answered_and_a_deleted_node_ends_its_session() -> Result<()> {
    let lab = Lab::start()?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        let mut node = recorded::with_id("005-up-edged-meta-insert-node.json", "register")?;
        node["content"]["metadata"]["annotations"]["filler"] = "z".repeat(50_000).into();
        ensure!(edge.send_in_fragments(&node).await? > 10);
        let registered = peer::answer(&mut edge.socket, "register").await?;
        ensure!(registered["content"]["Object"]["metadata"]["name"] == NODE, "{registered}");
        let pong = edge.answer(&message("ping-1", "resource", "ping", "x", Value::Null)).await?;
        ensure!(pong["content"] == "ack" && pong["route"]["operation"] == "response", "{pong}");
        let ca = edge.answer(&message("ca-1", "meta", "query", "k8s/ca.crt", Value::Null)).await?;
        let pem = ca["content"].as_str().context("a text")?;
        ensure!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
        let foreign = message("q-1", "meta", "query", "default/secret/of-nobody", Value::Null);
        let refused = edge.answer(&foreign).await?;
        ensure!(refused["content"]["ErrStatus"]["code"] == 403, "{refused}");
        // An acknowledgement of nothing and an error report disturb nobody.
        let mut stray = message("stray", "resource", "response", "default/pod/none", json!("OK"));
        stray["header"]["parent_msg_id"] = "never-sent".into();
        edge.send(&stray).await?;
        stray["route"]["operation"] = "error".into();
        edge.send(&stray).await?;
        edge.send(&message("k", "resource", "keepalive", "node", json!("ping"))).await?;
        ensure!(
            edge.answer(&message("ping-2", "resource", "ping", "x", Value::Null)).await?["content"] == "ack"
        );

        lab.cloud.kubectl().run(&["delete", "node", NODE])?;
        let (code, reason) = tokio::time::timeout(PATIENCE, peer::closing(&mut edge.socket)).await?;
        ensure!(code == 1008 && reason.contains("deleted"), "{code} {reason}");
        Ok(())
    })
}
