//! `values.schema.json` and the comments of `values.yaml`: made from the values' own types and defaults, so that every key that
//! is obeyed is there, and no other is taken.

use serde_json::{Map, Value, json};

use crate::marks::{THEN, WHY};
use crate::{Installation, words};

/// Path below `cloudCore`, what it is for, and what its type does not say.
const KEYS: &[(&str, &str, &str)] = &[
    (
        "replicaCount",
        "Pods that run at once. Any of them serves any node; one of them does what one does for all.",
        r#"{"minimum": 1}"#,
    ),
    ("image", "The image of `cargo xtask images`, in a registry of yours.", ""),
    ("image.repository", "", r#"{"minLength": 1}"#),
    ("image.tag", "Empty: the version of the chart.", ""),
    ("image.pullPolicy", "", r#"{"enum": ["Always", "IfNotPresent", "Never"]}"#),
    (
        "image.pullSecrets",
        "For a registry that asks who you are: [{name: SECRET}].",
        r#"{"items": {"type": "object"}}"#,
    ),
    ("modules", "Keys of cloudcore.yaml below `modules`; docs/configuration.md has all of them.", ""),
    (
        "modules.cloudHub.advertiseAddress",
        "Required: addresses or names by which edges reach CloudCore, of a node of the cluster or of the balancer. They become names of its certificate.",
        TEXTS,
    ),
    ("modules.cloudHub.dnsNames", "Names by which edges reach it; the same.", TEXTS),
    (
        "modules.cloudHub.nodeLimit",
        "Nodes connected to one pod at most. Where one pod has to serve all while another is away, that is all of them.",
        r#"{"minimum": 1}"#,
    ),
    (
        "modules.cloudHub.commonPort",
        "One port for everything edges need, beside the others, as 8443; 0: none. The Service has it as `service.commonPort`.",
        PORT_OR_NONE,
    ),
    ("modules.cloudHub.websocket.port", "", PORT),
    ("modules.cloudHub.quic", "The native dialect over QUIC.", ""),
    ("modules.cloudHub.quic.port", "", PORT),
    ("modules.cloudHub.https.port", "", PORT),
    (
        "modules.cloudStream",
        "kubectl logs, exec, attach, port-forward and metrics of edge nodes, through the cluster's API server.",
        "",
    ),
    (
        "modules.cloudStream.nodeAddress",
        "Address of every edge node for API servers: the clusterIP of Service cloudcore-internal, which exists after the first installation. Empty: nodes keep their own, which your network leads to CloudCore.",
        "",
    ),
    ("modules.cloudStream.streamPort", "", PORT),
    ("modules.cloudStream.tunnelPort", "", PORT),
    (
        "modules.dynamicController.nodeIdentity",
        "Nodes ask the API server as themselves, for EdgeCore's hub form. CloudCore then may impersonate every user.",
        "",
    ),
    (
        "modules.webhooks",
        "Admission webhooks: tolerations and endpoints of nodes with an autonomy policy, changes of pods on nodes whose link is lost. One that is not reached holds up nothing.",
        "",
    ),
    ("modules.webhooks.port", "", PORT),
    (
        "modules.webhooks.offlineChanges",
        "Changes of pods on nodes whose link is lost, where the namespace has no label causeway.io/offline-changes.",
        r#"{"enum": ["ignore", "warn", "deny"]}"#,
    ),
    ("log", "What is logged: debug, or warn,cloudcore=debug for a part.", ""),
    (
        "monitorAddress",
        "Where the pod serves health and metrics; \"[::]:9091\" in a cluster of IPv6.",
        r#"{"pattern": ":9091$"}"#,
    ),
    (
        "service",
        "How edges reach CloudCore: at ports of the cluster's nodes (join with -e ADDRESS:30000 -s 30002), or by a balancer (-e ADDRESS:10000).",
        "",
    ),
    ("service.type", "", r#"{"enum": ["NodePort", "LoadBalancer", "ClusterIP"]}"#),
    ("service.annotations", "For the controller of a balancer.", ""),
    ("service.cloudhubNodePort", "Ports of the nodes, with type NodePort.", PORT),
    ("service.cloudhubQuicNodePort", "", PORT),
    ("service.cloudhubHttpsNodePort", "", PORT),
    ("service.tunnelNodePort", "", PORT),
    ("service.commonNodePort", "", PORT),
    ("service.commonPort", "The Service's port for all, if modules.cloudHub.commonPort is set.", PORT),
    ("annotations", "Of the pods.", ""),
    ("resources", "Ten thousand nodes take some 300 MiB (docs/sizing.md).", ""),
    ("tolerations", "", r#"{"items": {"type": "object"}}"#),
    ("affinity", "CloudCore does not run on edge nodes.", ""),
    ("podDisruptionBudget", "One pod at a time may be moved away.", ""),
    ("networkPolicy", "The ports of edges and API servers are open to all, health and metrics to these.", ""),
    ("networkPolicy.monitorFrom", "", r#"{"items": {"type": "object"}}"#),
    ("serviceMonitor", "For the operator of Prometheus, if the cluster has it.", ""),
];

const PORT: &str = r#"{"minimum": 1, "maximum": 65535}"#;
const PORT_OR_NONE: &str = r#"{"maximum": 65535}"#;
const TEXTS: &str = r#"{"items": {"type": "string"}}"#;

/// Maps of Kubernetes' own types: any key.
const OPEN: &[&str] =
    &["annotations", "resources", "nodeSelector", "affinity", "service.annotations", "serviceMonitor.labels"];

/// Not for a pod: no key of these is taken.
const LEFT_OUT: &[&str] = &["modules.standalone", "modules.cloudHub.unixsocket"];

fn key(path: &str) -> Option<(&'static str, &'static str)> {
    KEYS.iter().find(|(of, ..)| *of == path).map(|(_, text, extra)| (*text, *extra))
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// `values.schema.json`.
pub(crate) fn schema() -> Value {
    let all = json!(Installation::default());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart cloudcore",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "cloudCore": of(&all["cloudCore"], ""),
            // Helm gives it to a chart that another one contains.
            "global": {"type": "object"},
        },
    })
}

fn of(value: &Value, path: &str) -> Value {
    let mut schema = match value {
        Value::Object(_) if OPEN.contains(&path) => json!({"type": "object"}),
        Value::Object(fields) => {
            let properties = fields.iter().map(|(key, value)| (key, value, below(path, key)));
            let properties = properties.filter(|(.., path)| !LEFT_OUT.contains(&path.as_str()));
            let properties: Map<String, Value> =
                properties.map(|(key, value, path)| (key.clone(), of(value, &path))).collect();
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        }
        Value::Array(_) => json!({"type": "array"}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "integer", "minimum": 0}),
        _ => json!({"type": "string"}),
    };
    let (text, extra) = key(path).unwrap_or_default();
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
    let extra: Map<String, Value> = serde_json::from_str(extra).unwrap_or_default();
    for (name, value) in extra {
        schema[name] = value;
    }
    schema
}

/// `values.yaml`, each key with what it is for.
pub(crate) fn values() -> Value {
    let defaults = words::defaults();
    json!({"cloudCore": explained(&defaults["cloudCore"], "")})
}

fn explained(value: &Value, path: &str) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    if OPEN.contains(&path) {
        return value.clone();
    }
    let told = fields.iter().map(|(name, value)| {
        let path = below(path, name);
        let inner = explained(value, &path);
        match key(&path) {
            Some((text, _)) if !text.is_empty() => (name.clone(), json!({THEN: inner, WHY: text})),
            _ => (name.clone(), inner),
        }
    });
    Value::Object(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_explained_exists_and_what_is_said_beside_its_type_is_json() {
        let all = json!(Installation::default());
        for (path, _, extra) in KEYS {
            let found = path.split('.').try_fold(&all["cloudCore"], |at, key| at.get(key));
            assert!(found.is_some(), "{path}");
            assert!(extra.is_empty() || serde_json::from_str::<Map<String, Value>>(extra).is_ok(), "{path}");
        }
    }
}
