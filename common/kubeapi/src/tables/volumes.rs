//! PersistentVolumes and their claims.

use apimachinery::object::{deleting, list, text};
use serde_json::{Value, json};

use super::{Column, age, own_name};

fn modes(object: &Value, pointer: &str) -> Value {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    json!(list(object, pointer).iter().map(short).collect::<Vec<_>>().join(","))
}

fn phase(object: &Value) -> Value {
    json!(if deleting(object) { "Terminating" } else { text(object, "/status/phase") })
}

pub(super) fn volume_columns() -> Vec<Column> {
    let mut columns = super::cluster::columns(&[
        "Capacity",
        "Access Modes",
        "Reclaim Policy",
        "Status",
        "Claim",
        "StorageClass",
        "VolumeAttributesClass",
        "Reason",
    ]);
    columns.push(Column::wide("VolumeMode"));
    columns
}

pub(super) fn claim_columns() -> Vec<Column> {
    let inner = ["Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass"];
    let mut columns = super::cluster::columns(&inner);
    columns.push(Column::wide("VolumeMode"));
    columns
}

fn or_unset(object: &Value, pointer: &str) -> Value {
    let given = text(object, pointer);
    json!(if given.is_empty() { "<unset>" } else { given })
}

pub(super) fn volume(object: &Value, now: i64) -> Vec<Value> {
    let claim = match text(object, "/spec/claimRef/name") {
        "" => String::new(),
        name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
    };
    let policy = match text(object, "/spec/persistentVolumeReclaimPolicy") {
        "" => "Retain",
        policy => policy,
    };
    vec![
        own_name(object),
        json!(text(object, "/spec/capacity/storage")),
        modes(object, "/spec/accessModes"),
        json!(policy),
        phase(object),
        json!(claim),
        json!(text(object, "/spec/storageClassName")),
        or_unset(object, "/spec/volumeAttributesClassName"),
        json!(text(object, "/status/reason")),
        age(object, now),
        or_unset(object, "/spec/volumeMode"),
    ]
}

pub(super) fn claim(object: &Value, now: i64) -> Vec<Value> {
    vec![
        own_name(object),
        phase(object),
        json!(text(object, "/spec/volumeName")),
        json!(text(object, "/status/capacity/storage")),
        modes(object, "/status/accessModes"),
        json!(text(object, "/spec/storageClassName")),
        or_unset(object, "/spec/volumeAttributesClassName"),
        age(object, now),
        or_unset(object, "/spec/volumeMode"),
    ]
}
