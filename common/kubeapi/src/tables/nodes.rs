//! Nodes.

use apimachinery::object::{list, text};
use serde_json::{Value, json};

use super::{Column, age, own_name};

pub(super) fn columns() -> Vec<Column> {
    let mut columns = super::cluster::columns(&["Status", "Roles"]);
    columns.push(Column::text("Version"));
    let wide = ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"];
    columns.extend(wide.map(Column::wide));
    columns
}

fn status(node: &Value) -> String {
    let ready = list(node, "/status/conditions").iter().find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable").is_some_and(|flag| *flag == true) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

const ROLE: &str = "node-role.kubernetes.io/";

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let roles: Vec<&str> =
        labels.filter_map(|(key, _)| key.strip_prefix(ROLE)).filter(|role| !role.is_empty()).collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

pub(super) fn cells(node: &Value, now: i64) -> Vec<Value> {
    let address = |kind: &str| {
        let found = list(node, "/status/addresses").iter().find(|address| address["type"] == kind);
        super::or_none(found.map(|address| text(address, "/address")).unwrap_or_default())
    };
    let info = |field: &str| {
        let found = text(node, &format!("/status/nodeInfo/{field}"));
        json!(if found.is_empty() { "<unknown>" } else { found })
    };
    vec![
        own_name(node),
        json!(status(node)),
        json!(roles(node)),
        age(node, now),
        json!(text(node, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}
