//! What a Go hub and its controllers take from an edge: envelope and catalogue (docs/protocol/transport.md 1.1, 1.8, 3.3).

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const HEADER: [&str; 4] = ["msg_id", "parent_msg_id", "timestamp", "resourceversion"];
const ROUTE: [&str; 4] = ["source", "group", "operation", "resource"];

/// Errors with what is wrong about an upstream message, read as JSON text of one WebSocket message.
pub fn fits_the_catalogue(text: &str, node: &str) -> Result<Value> {
    let message: Value = serde_json::from_str(text).context("one malformed envelope ends a connection")?;
    envelope(&message).with_context(|| text.to_owned())?;
    catalogue(&message, node).with_context(|| text.to_owned())?;
    Ok(message)
}

/// Strings where Go has strings, an int64 where it has one, nothing it would not write.
fn envelope(message: &Value) -> Result<()> {
    let members: Vec<&str> = message.as_object().context("an object")?.keys().map(String::as_str).collect();
    ensure!(members.len() == 3 && message.get("content").is_some(), "members {members:?}");
    for (part, known) in [("header", HEADER), ("route", ROUTE)] {
        for (name, value) in message[part].as_object().context("header and route are objects")? {
            ensure!(known.contains(&name.as_str()), "unknown member {part}.{name}");
            ensure!(name == "timestamp" || value.is_string(), "{part}.{name} is not a string");
            ensure!(*value != "", "{part}.{name} is empty, and not left out");
        }
    }
    let header = &message["header"];
    ensure!(header["msg_id"].is_string(), "no id");
    // Milliseconds of this century: seconds or microseconds would be far off.
    let timestamp = header["timestamp"].as_i64().context("timestamp is not an int64")?;
    ensure!((1_500_000_000_000..4_100_000_000_000).contains(&timestamp), "timestamp {timestamp}");
    Ok(())
}

fn catalogue(message: &Value, node: &str) -> Result<()> {
    let route = |field: &str| message["route"][field].as_str().unwrap_or_default();
    let content = &message["content"];
    let answers = message["header"]["parent_msg_id"].is_string();
    match route("operation") {
        "keepalive" => {
            let fits =
                (route("source"), route("group"), route("resource")) == ("websocket", "resource", "node");
            ensure!(fits && *content == "ping", "keepalive");
            return Ok(());
        }
        "response" => {
            ensure!(answers && (*content == "OK" || *content == "ack"), "acknowledgement");
            return Ok(());
        }
        "error" => {
            ensure!(route("source") == "metamanager" && content.is_string(), "complaint");
            return Ok(());
        }
        _ => {}
    }
    ensure!(!answers, "a request with a parent");
    match (route("source"), route("group")) {
        ("edged", "meta") => of_edged(route("operation"), route("resource"), content, node),
        ("twin", "resource") => of_twin(route("operation"), route("resource"), content),
        ("metaserver", "dynamiccontroller") => of_metaserver(route("operation"), route("resource"), content),
        // Dropped or routed elsewhere by the hub.
        other => bail!("no controller takes {other:?}"),
    }
}

fn of_edged(operation: &str, resource: &str, content: &Value, node: &str) -> Result<()> {
    let parts: Vec<&str> = resource.split('/').collect();
    let [namespace, kind, name] = parts.as_slice() else { bail!("resource {resource}") };
    let named = |what: &Value| what["metadata"]["name"] == *name;
    let patch = || -> Result<Value> {
        let text = content.as_str().context("a patch is a string")?;
        let patch: Value = serde_json::from_str(text)?;
        ensure!(patch.is_object(), "a patch holds an object");
        Ok(patch)
    };
    match (operation, *kind) {
        ("insert" | "update", "node") => {
            ensure!(*namespace == "null" && *name == node && named(content), "node");
            ensure!(content["metadata"]["labels"]["node-role.kubernetes.io/edge"] == "", "no edge label");
        }
        ("patch", "nodepatch") => {
            ensure!(*namespace == "null" && *name == node, "node of the patch");
            patch()?;
        }
        ("patch", "podpatch") => ensure!(patch()?["metadata"]["uid"].is_string(), "a patch without uid"),
        ("delete", "pod") => {
            ensure!(content["gracePeriodSeconds"] == 0, "grace period of a deletion");
            ensure!(content["preconditions"]["uid"].is_string(), "a deletion without precondition");
        }
        ("query", "lease") => ensure!(*namespace == "kube-node-lease" && *name == node, "lease"),
        ("insert" | "update", "lease") => {
            ensure!(*namespace == "kube-node-lease" && *name == node && named(content), "lease");
            ensure!(content["spec"]["holderIdentity"] == node, "holder of the lease");
            ensure!(content["spec"]["renewTime"].is_string(), "time of the lease");
        }
        ("query", "configmap" | "secret" | "node") => ensure!(content.is_null(), "a query with content"),
        ("query", "serviceaccounttoken") => {
            ensure!(content["spec"]["boundObjectRef"]["kind"] == "Pod", "token of nobody");
            ensure!(content["spec"]["expirationSeconds"].is_i64(), "life of the token");
        }
        ("insert" | "update", "event") => ensure!(content["reason"].is_string(), "event"),
        ("patch", "event") => ensure!(content["patchData"].is_string(), "event patch"),
        _ => bail!("no EdgeController takes {operation} {resource}"),
    }
    Ok(())
}

fn of_metaserver(operation: &str, resource: &str, content: &Value) -> Result<()> {
    ensure!(operation == "null" && content.is_object(), "{operation} of MetaServer");
    ensure!(matches!(resource, "null" | "watchapp/sync"), "application {resource}");
    Ok(())
}

fn of_twin(operation: &str, resource: &str, content: &Value) -> Result<()> {
    let parts: Vec<&str> = resource.split('/').collect();
    match (operation, parts.as_slice()) {
        ("update", ["device", _, _, "twin", "edge_updated"]) => {
            ensure!(content["twin"].is_object() && content["timestamp"].is_i64(), "twin report");
        }
        ("update", ["device", _, _, "state", "update"]) => {
            let report: Value = serde_json::from_str(content.as_str().context("state as a string")?)?;
            ensure!(report["device"]["state"].is_string(), "state report");
        }
        ("get", ["membership", "detail"]) => ensure!(content.is_string(), "membership request"),
        _ => bail!("no DeviceController takes {operation} {resource}"),
    }
    Ok(())
}
