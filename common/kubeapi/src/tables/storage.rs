//! Storage classes, CSI drivers and what nodes say of them.

use apimachinery::object::{list, text};
use serde_json::{Value, json};

use super::{age, own_name};

pub(super) fn class(object: &Value, now: i64) -> Vec<Value> {
    let is_default =
        object["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
    let name = format!("{}{}", text(object, "/metadata/name"), if is_default { " (default)" } else { "" });
    let given = |field: &str, otherwise: &str| match text(object, field) {
        "" => json!(otherwise),
        given => json!(given),
    };
    vec![
        json!(name),
        json!(text(object, "/provisioner")),
        given("/reclaimPolicy", "Delete"),
        given("/volumeBindingMode", "Immediate"),
        json!(object["allowVolumeExpansion"] == true),
        age(object, now),
    ]
}

pub(super) fn driver(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let is = |field: &str, otherwise: bool| json!(spec[field].as_bool().unwrap_or(otherwise));
    let audiences: Vec<&str> =
        list(spec, "/tokenRequests").iter().map(|one| text(one, "/audience")).collect();
    let modes: Vec<&str> = list(spec, "/volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let or_unset =
        |words: Vec<&str>| json!(if words.is_empty() { "<unset>".to_owned() } else { words.join(",") });
    vec![
        own_name(object),
        is("attachRequired", true),
        is("podInfoOnMount", false),
        is("storageCapacity", false),
        or_unset(audiences),
        is("requiresRepublish", false),
        or_unset(modes),
        age(object, now),
    ]
}

pub(super) fn node(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(list(object, "/spec/drivers").len()), age(object, now)]
}

pub(super) fn attachment(object: &Value, now: i64) -> Vec<Value> {
    vec![
        own_name(object),
        json!(text(object, "/spec/attacher")),
        json!(text(object, "/spec/source/persistentVolumeName")),
        json!(text(object, "/spec/nodeName")),
        json!(object["status"]["attached"] == true),
        age(object, now),
    ]
}

pub(super) fn attributes(object: &Value, now: i64) -> Vec<Value> {
    vec![own_name(object), json!(text(object, "/driverName")), age(object, now)]
}
