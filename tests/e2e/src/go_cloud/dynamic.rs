//! What DynamicController does with applications (docs/protocol/transport.md 1.9), for a cluster with a few Services: discovery in
//! Protobuf, as its client asks for it, lists with their failures in a text, and watches that are told by objects.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The cluster, and who watches it.
#[derive(Default)]
pub struct Dynamic {
    /// Services by name.
    pub services: Vec<Value>,
    /// Version of the cluster.
    pub version: u64,
    /// Ids of watches.
    pub watches: BTreeSet<String>,
    /// Verb and key of what was asked, `sync` with the number of watches.
    pub asked: Vec<String>,
}

/// `APIVersions` with `v1`, as an API server writes it.
const VERSIONS: &[u8] = b"k8s\0\n\x0f\n\0\x12\x0bAPIVersions\x12\x04\n\x02v1\x1a\0\"\0";

impl Dynamic {
    /// A Service of the namespace `default` at the next version.
    pub fn put(&mut self, name: &str) -> Value {
        self.version += 1;
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "resourceVersion": self.version.to_string()});
        let spec = json!({"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        self.services.retain(|service| service["metadata"]["name"] != name);
        self.services.push(service.clone());
        service
    }

    /// Takes a Service away.
    pub fn remove(&mut self, name: &str) {
        self.version += 1;
        self.services.retain(|service| service["metadata"]["name"] != name);
    }

    /// The message that answers an application, without header.
    pub(super) fn answer(&mut self, asked: &Value) -> Result<Value> {
        let content = &asked["content"];
        if asked["route"]["resource"].as_str().is_some_and(|resource| resource.ends_with("watchapp/sync")) {
            let all: BTreeSet<String> =
                content.as_object().into_iter().flatten().map(|(id, _)| id.clone()).collect();
            self.asked.push(format!("sync {}", all.len()));
            self.watches = all;
            return Ok(json!({}));
        }
        let text = |field: &str| content[field].as_str().unwrap_or_default().to_owned();
        ensure!(text("Nodename") == super::NODE && text("ID").len() == 64, "{content}");
        let (verb, key) = (text("Verb"), text("Key"));
        self.asked.push(format!("{verb} {key}"));
        let body = match (verb.as_str(), key.as_str()) {
            ("get", "/api") => Ok(VERSIONS.to_vec()),
            ("get", "/api/v1") => {
                let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
                let service = json!({"name": "services", "singularName": "service", "namespaced": true, "kind": "Service",
                    "shortNames": ["svc"], "verbs": verbs});
                let list = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [service]});
                Ok(list.to_string().into_bytes())
            }
            ("get", "/apis") => {
                Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}).to_string().into_bytes())
            }
            ("list", "/core/v1/services/null/null" | "/core/v1/services/default/null") => {
                let metadata = json!({"resourceVersion": self.version.to_string()});
                let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": metadata, "items": self.services});
                Ok(list.to_string().into_bytes())
            }
            ("list", key) => {
                Err(format!("get current list error: {key} is forbidden: User cannot list resource"))
            }
            ("watch", "/core/v1/services/null/null" | "/core/v1/services/default/null") => {
                self.watches.insert(text("ID"));
                Ok(Vec::new())
            }
            ("get", _) => Err("name is required".to_owned()),
            other => bail!("nobody asks for {other:?} here"),
        };
        let mut answer = content.clone();
        match body {
            Ok(body) => {
                answer["Status"] = "Approved".into();
                answer["RespBody"] = if body.is_empty() { Value::Null } else { STANDARD.encode(body).into() };
            }
            Err(reason) => {
                answer["Status"] = "Rejected".into();
                answer["Reason"] = reason.into();
            }
        }
        Ok(answer)
    }
}
