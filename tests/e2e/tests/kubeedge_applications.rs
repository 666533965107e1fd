//! What MetaServer of a KubeEdge edge gets of CloudCore: applications, in raw WebSocket frames, and what its watches show.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::go_edge::{GoEdge, Lab, NODE};
use e2e::recorded;
use serde_json::{Value, json};

/// The recorded application, as another one.
fn asking(id: &str, verb: &str, key: &str, option: &Value) -> Result<Value> {
    let mut message = recorded::with_id("038-up-metaserver-dynamiccontroller-null-null.json", id)?;
    let content = &mut message["content"];
    content["ID"] = id.into();
    content["Verb"] = verb.into();
    content["Key"] = key.into();
    content["Option"] = STANDARD.encode(option.to_string()).into();
    Ok(message)
}

async fn outcome(edge: &mut GoEdge, asked: &Value) -> Result<(String, Value)> {
    let answer = edge.answer(asked).await?;
    ensure!(answer["route"]["operation"] == "applicationResponse", "{answer}");
    ensure!(answer["route"]["resource"] == "ignore/Application/ignore", "{answer}");
    let content = &answer["content"];
    let status = content["Status"].as_str().context("a status")?.to_owned();
    let body = match content["RespBody"].as_str() {
        Some(text) => serde_json::from_slice(&STANDARD.decode(text)?)?,
        None => content["Error"]["ErrStatus"].clone(),
    };
    Ok((status, body))
}

/// `operation resource` of what watches showed.
fn shown(messages: &[Value]) -> Vec<String> {
    let watched = messages.iter().filter(|message| {
        message["route"]["source"] == "dynamiccontroller" && message["header"]["parent_msg_id"].is_null()
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    watched
        .map(|message| {
            format!("{} {}", text(&message["route"]["operation"]), text(&message["route"]["resource"]))
        })
        .collect()
}

fn service(name: &str) -> String {
    let metadata = json!({"name": name, "namespace": "default", "labels": {"seen": "yes"}});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}})
        .to_string()
}

#[test]
fn an_edge_asks_as_its_node_and_is_refused_what_is_not_its_own() -> Result<()> {
    let lab = Lab::start_with(&["modules.dynamicController.nodeIdentity=true"])?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        edge.answer(&recorded::with_id("005-up-edged-meta-insert-node.json", "register")?).await?;
        lab.cloud.kubectl().apply(&service("web"))?;
        let none = json!({});
        let (status, body) = outcome(&mut edge, &asking("a1", "get", "/version", &none)?).await?;
        ensure!(status == "Approved" && body["major"].is_string(), "{status} {body}");
        let list =
            asking("a2", "list", "/core/v1/services/default/null", &json!({"labelSelector": "seen=yes"}))?;
        let (status, body) = outcome(&mut edge, &list).await?;
        ensure!(status == "Approved" && body["kind"] == "ServiceList", "{status} {body}");
        ensure!(body["items"].as_array().is_some_and(|items| items.len() == 1), "{body}");
        let node = format!("/core/v1/nodes/null/{NODE}");
        let (status, body) = outcome(&mut edge, &asking("a3", "get", &node, &none)?).await?;
        ensure!(status == "Approved" && body["metadata"]["name"] == NODE, "{status} {body}");
        let patch = json!({"Name": NODE, "PatchType": "application/merge-patch+json",
            "Data": STANDARD.encode(json!({"metadata": {"annotations": {"by": "metaserver"}}}).to_string()),
            "Options": {}, "Subresources": null});
        let (status, body) = outcome(&mut edge, &asking("a4", "patch", &node, &patch)?).await?;
        ensure!(
            status == "Approved" && body["metadata"]["annotations"]["by"] == "metaserver",
            "{status} {body}"
        );
        let (status, body) =
            outcome(&mut edge, &asking("a5", "get", "/core/v1/services/default/none", &none)?).await?;
        ensure!(
            status == "Rejected" && body["code"] == 404 && body["reason"] == "NotFound",
            "{status} {body}"
        );
        for (id, verb, key) in [
            ("b1", "list", "/core/v1/configmaps/default/null"),
            ("b2", "get", "/core/v1/secrets/default/s"),
            ("b3", "delete", "/core/v1/nodes/null/other"),
        ] {
            let (status, body) = outcome(&mut edge, &asking(id, verb, key, &none)?).await?;
            ensure!(status == "Rejected" && body["code"] == 403, "{verb} {key}: {status} {body}");
        }
        let mut other = asking("b4", "get", &node, &none)?;
        other["content"]["Nodename"] = "other".into();
        let (status, body) = outcome(&mut edge, &other).await?;
        ensure!(status == "Rejected" && body["code"] == 403, "{status} {body}");
        Ok(())
    })
}

#[test]
fn what_an_edge_watches_comes_and_goes_and_is_caught_up_with_after_it_was_away() -> Result<()> {
    let lab = Lab::start_with(&["modules.dynamicController.nodeIdentity=true"])?;
    lab.block_on(async {
        let mut edge = lab.connect().await?;
        edge.answer(&recorded::with_id("005-up-edged-meta-insert-node.json", "register")?).await?;
        for name in ["one", "two"] {
            lab.cloud.kubectl().apply(&service(name))?;
        }
        edge.read(true).await?;
        let watch =
            asking("w1", "watch", "/core/v1/services/null/null", &json!({"labelSelector": "seen=yes"}))?;
        let (status, body) = outcome(&mut edge, &watch).await?;
        ensure!(status == "Approved", "{status} {body}");
        edge.read(true).await?;
        let mut first = shown(&edge.received);
        first.sort();
        ensure!(first == ["insert default/service/one", "insert default/service/two"], "{first:?}");
        // What changes comes; what is no longer selected goes.
        lab.cloud.kubectl().run(&["annotate", "service", "one", "a=b"])?;
        ensure!(shown(&edge.read(true).await?) == ["update default/service/one"]);
        lab.cloud.kubectl().run(&["label", "service", "one", "seen-"])?;
        ensure!(shown(&edge.read(true).await?) == ["delete default/service/one"]);

        // Away, one goes and one comes; it tells again what it watches.
        drop(edge);
        lab.cloud.kubectl().run(&["delete", "service", "two"])?;
        lab.cloud.kubectl().apply(&service("three"))?;
        let mut edge = lab.connect().await?;
        let mut sync = recorded::with_id("040-up-metaserver-dynamiccontroller-null-sync.json", "sync")?;
        let mut application = watch["content"].clone();
        // An edge gives the id that is the sum of what is asked; the one above was not looked at.
        let asked =
            ["edge1", "/core/v1/services/null/null", "watch", "{\"labelSelector\":\"seen=yes\"}"].concat();
        let id = harness::images::sha256(asked.as_bytes());
        application["ID"] = id.clone().into();
        sync["content"] = json!({ id: application });
        let answer = edge.answer(&sync).await?;
        ensure!(answer["content"] == json!({}), "{answer}");
        edge.read(true).await?;
        let mut caught_up = shown(&edge.received);
        caught_up.sort();
        ensure!(caught_up == ["delete default/service/two", "insert default/service/three"], "{caught_up:?}");
        Ok(())
    })
}
