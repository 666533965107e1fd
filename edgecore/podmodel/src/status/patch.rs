//! A status as the text of a strategic merge patch, guarded by the pod's uid.

use k8s_openapi::api::core::v1::PodStatus;
use message::Json;
use serde_json::{Value, json};

/// The patch: the whole status, with lists that are merged by key replaced instead. Fields without a value are set to
/// null so that an older one does not stay, in conditions as well. Conditions of others are theirs to write.
pub fn text(uid: &str, status: &PodStatus) -> String {
    let mut body: Value = Json::encode(status).and_then(|json| json.parse()).unwrap_or_default();
    if let Value::Object(fields) = &mut body {
        for list in ["podIPs", "hostIPs"] {
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.insert(0, json!({"$patch": "replace"}));
            }
        }
        if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
            conditions.retain(|condition| {
                let kind = condition["type"].as_str().unwrap_or_default();
                let disrupted = kind == "DisruptionTarget" && condition["reason"] == "TerminationByKubelet";
                native::NODES_CONDITIONS.contains(&kind) || disrupted
            });
            // An older reason or message would stay otherwise: conditions are merged by their type.
            for fields in conditions.iter_mut().filter_map(Value::as_object_mut) {
                for field in ["reason", "message"] {
                    fields.entry(field).or_insert(Value::Null);
                }
            }
        }
        for field in ["reason", "message", "podIP", "podIPs"] {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"uid": uid}, "status": body}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP};

    #[test]
    fn a_patch_names_the_uid_and_replaces_the_address_lists() {
        let status = PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some("10.0.0.2".into()),
            pod_ips: Some(vec![PodIP { ip: "10.0.0.2".into() }]),
            conditions: Some(vec![PodCondition {
                type_: "Ready".into(),
                status: "True".into(),
                ..PodCondition::default()
            }]),
            ..PodStatus::default()
        };
        let patch: Value = serde_json::from_str(&text("u", &status)).unwrap();
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["status"]["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.0.0.2"}]));
        assert_eq!(patch["status"]["reason"], Value::Null);
        let ready = patch["status"]["conditions"][0].as_object().unwrap();
        assert_eq!((ready.get("reason"), ready.get("message")), (Some(&Value::Null), Some(&Value::Null)));
    }
}
