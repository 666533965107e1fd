//! Kinds of `storage.k8s.io` (`pkg/apis/storage/v1/defaults.go`, `pkg/apis/storage/validation/validation.go`).

use serde_json::{Map, Value, json};

use crate::object::{set_default, text};
use crate::{Cause, LabelSelector, names, quantity};

/// Completes the spec of a CSIDriver.
pub(super) fn driver(spec: &mut Map<String, Value>) {
    set_default(spec, "attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        set_default(spec, field, false);
    }
    set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    set_default(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

/// A class of a driver, with at least one parameter.
pub(super) fn attributes(object: &Value, causes: &mut Vec<Cause>) {
    let driver = text(object, "/driverName");
    if driver.is_empty() {
        causes.push(Cause::required("driverName", ""));
    } else if let Some(why) = names::qualified(&driver.to_lowercase()) {
        causes.push(Cause::invalid("driverName", &json!(driver), &why));
    }
    if object["parameters"].as_object().is_none_or(Map::is_empty) {
        causes.push(Cause::required("parameters", "must contain at least one key/value pair"));
    }
}

/// Capacity of a class of storage, where the selector says, in the namespace of the driver.
pub(super) fn capacity(object: &Value, causes: &mut Vec<Cause>) {
    causes.extend(
        LabelSelector::of_object(&object["nodeTopology"], "nodeTopology").err().into_iter().flatten(),
    );
    let class = text(object, "/storageClassName");
    causes.extend(names::subdomain(class).map(|why| Cause::invalid("storageClassName", &json!(class), &why)));
    let size = text(object, "/capacity");
    if quantity::milli(size).is_some_and(|size| size < 0) {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid("capacity", &json!(size), why));
    }
}

/// What was asked of the driver stays; what it answered may change.
pub(super) fn capacity_changes(old: &Value, new: &Value) -> Vec<Cause> {
    let changed =
        ["nodeTopology", "storageClassName"].into_iter().filter(|field| old.get(field) != new.get(field));
    changed.map(|field| Cause::invalid(field, &new[field], "field is immutable")).collect()
}
