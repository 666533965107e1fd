//! Kinds of `resource.k8s.io` (`pkg/apis/resource/v1/defaults.go`, `pkg/apis/resource/validation/validation.go`). They are kept for
//! drivers and schedulers that know them; the embedded scheduler allocates no devices.

use serde_json::{Map, Value, json};

use crate::Cause;
use crate::object::{map_in, maps_in, set_default};

pub(super) const GROUP: &str = "resource.k8s.io";

pub(super) fn complete(plural: &str, object: &mut Map<String, Value>) {
    match plural {
        "resourceclaims" => {
            claim(map_in(object, "spec"));
            set_default(object, "status", json!({}));
        }
        "resourceclaimtemplates" => claim(map_in(map_in(object, "spec"), "spec")),
        _ => {}
    }
}

fn claim(spec: &mut Map<String, Value>) {
    let Some(Value::Object(devices)) = spec.get_mut("devices") else { return };
    for request in maps_in(devices, "requests") {
        if let Some(Value::Object(exactly)) = request.get_mut("exactly") {
            amount(exactly);
        }
        maps_in(request, "firstAvailable").for_each(amount);
    }
}

fn amount(request: &mut Map<String, Value>) {
    set_default(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount"
        && request.get("count").is_none_or(|count| *count == json!(0))
    {
        request.insert("count".to_owned(), json!(1));
    }
}

/// What was asked for stays: claims and their templates are replaced, not changed.
pub(super) fn changes(plural: &str, old: &Value, new: &Value) -> Vec<Cause> {
    let fixed: &[&str] = match plural {
        "resourceclaims" | "resourceclaimtemplates" => &["/spec"],
        "resourceslices" => &["/spec/driver", "/spec/nodeName", "/spec/pool/name"],
        _ => &[],
    };
    let changed = fixed.iter().filter(|path| old.pointer(path) != new.pointer(path));
    let told = |path: &&str| {
        let field = path[1..].replace('/', ".");
        Cause::invalid(field, new.pointer(path).unwrap_or(&Value::Null), "field is immutable")
    };
    changed.map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_one_device_unless_it_says_how_many() {
        let requests = json!([{ "name": "a", "exactly": { "deviceClassName": "c" } },
            { "name": "b", "firstAvailable": [{ "name": "x", "allocationMode": "All" }, { "name": "y", "count": 2 }] }]);
        let mut claim = json!({ "spec": { "devices": { "requests": requests } } });
        complete("resourceclaims", claim.as_object_mut().unwrap());
        let told = &claim["spec"]["devices"]["requests"];
        assert_eq!(
            told[0]["exactly"],
            json!({ "deviceClassName": "c", "allocationMode": "ExactCount", "count": 1 })
        );
        assert_eq!(told[1]["firstAvailable"][0], json!({ "name": "x", "allocationMode": "All" }));
        assert_eq!(told[1]["firstAvailable"][1]["count"], 2);
        let mut template = json!({ "spec": { "spec": claim["spec"].clone() } });
        template["spec"]["spec"]["devices"]["requests"][0]["exactly"] = json!({});
        complete("resourceclaimtemplates", template.as_object_mut().unwrap());
        assert_eq!(template["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"], 1);
        assert_eq!(changes("resourceclaims", &claim, &claim), []);
        assert_eq!(changes("resourceclaims", &claim, &json!({ "spec": {} })).len(), 1);
        assert_eq!(changes("deviceclasses", &claim, &json!({})), []);
    }
}
