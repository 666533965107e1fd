//! Texts in the objects, as they are and as a chart has them.

use serde_json::{Map, Value, json};

use crate::{CloudCore, Installation, yaml};

pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Of the configuration: pods are replaced when it is another.
pub(crate) const CHECKSUM: &str =
    r#"{{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum | quote }}"#;

pub(crate) const IMAGE: &str = r#""{{ .Values.cloudCore.image.repository }}:{{ .Values.cloudCore.image.tag | default .Chart.AppVersion }}""#;

const API_VERSION: &str = "cloudcore.config.kubeedge.io/v1alpha2";

/// Keys of `modules` that `values.yaml` has; all others are there when they are not what they are by default.
pub(crate) const SHOWN: &[&str] = &[
    "cloudHub.advertiseAddress",
    "cloudHub.dnsNames",
    "cloudHub.nodeLimit",
    "cloudHub.websocket.port",
    "cloudHub.https.port",
    "cloudHub.quic.enable",
    "cloudHub.quic.port",
    "cloudHub.commonPort",
    "cloudStream.enable",
    "cloudStream.nodeAddress",
    "cloudStream.streamPort",
    "cloudStream.tunnelPort",
    "dynamicController.nodeIdentity",
    "webhooks.enable",
    "webhooks.port",
    "webhooks.offlineChanges",
];

/// cloudcore.yaml of an installation. Without a kubeconfig CloudCore uses the service account of its pod.
pub(crate) fn config(core: &CloudCore) -> String {
    let config = json!({
        "apiVersion": API_VERSION,
        "kind": "CloudCore",
        "commonConfig": {"monitorServer": {"bindAddress": core.monitor_address}},
        "modules": told(&json!(core.modules)),
    });
    yaml::render(&config)
}

/// The same in a chart, in a text that is indented by four.
pub(crate) fn config_template() -> String {
    let config = json!({
        "apiVersion": API_VERSION,
        "kind": "CloudCore",
        "commonConfig": {"monitorServer": {"bindAddress": "{{ toJson .Values.cloudCore.monitorAddress }}"}},
        "modules": "{{- toYaml .Values.cloudCore.modules | nindent 6 }}",
    });
    yaml::render(&config)
}

/// Of `modules`, what is shown in any case and what differs from the defaults of the program.
pub(crate) fn told(modules: &Value) -> Value {
    let defaults = json!(api::config::cloudcore::Modules::default());
    kept(modules, &defaults, "").unwrap_or_else(|| json!({}))
}

fn kept(value: &Value, default: &Value, path: &str) -> Option<Value> {
    let Value::Object(fields) = value else {
        return (value != default || SHOWN.contains(&path)).then(|| value.clone());
    };
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let told: Map<String, Value> = fields
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), kept(value, &default[key], &below(key))?)))
        .collect();
    (!told.is_empty()).then_some(Value::Object(told))
}

/// The values a chart has by default.
pub(crate) fn defaults() -> Value {
    let installation = Installation::default();
    let mut values = json!(installation);
    values["cloudCore"]["modules"] = told(&json!(installation.cloud_core.modules));
    values
}
