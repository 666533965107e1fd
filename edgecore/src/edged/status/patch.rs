//! A status as the text of a strategic merge patch, guarded by the pod's uid.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

/// The patch: the whole status, with lists that are merged by key replaced instead. Fields without a value are set to
/// null so that an older one does not stay. Conditions of others are theirs to write.
pub fn text(uid: &str, status: &PodStatus) -> String {
    let mut body = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(fields) = &mut body {
        for list in ["podIPs", "hostIPs"] {
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.insert(0, json!({"$patch": "replace"}));
            }
        }
        if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
            conditions.retain(|condition| {
                condition["type"].as_str().is_some_and(|kind| native::NODES_CONDITIONS.contains(&kind))
            });
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
    use k8s_openapi::api::core::v1::PodIP;

    #[test]
    fn a_patch_names_the_uid_and_replaces_the_address_lists() {
        let status = PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some("10.0.0.2".into()),
            pod_ips: Some(vec![PodIP { ip: "10.0.0.2".into() }]),
            ..PodStatus::default()
        };
        let patch: Value = serde_json::from_str(&text("u", &status)).unwrap();
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["status"]["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.0.0.2"}]));
        assert_eq!(patch["status"]["reason"], Value::Null);
    }
}
