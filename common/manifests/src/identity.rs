//! The namespace, the service account and the configuration file.

use serde_json::json;

use crate::document::Document;
use crate::{NAME, NAMESPACE, Values};

pub(crate) fn documents(values: &Values) -> Vec<Document> {
    let mut namespace = values.metadata(NAMESPACE, None);
    // Others of KubeEdge's family run here with more rights, so nothing is enforced.
    for mode in ["audit", "warn"] {
        namespace["labels"][format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
    }
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": values.metadata(NAME, Some(NAMESPACE)),
        // The pod asks for its token itself.
        "automountServiceAccountToken": false,
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": values.metadata(NAME, Some(NAMESPACE)),
        "data": {"cloudcore.yaml": values.config},
    });
    vec![
        Document::new("namespace", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})),
        Document::new("serviceaccount", account),
        Document::new("configmap", config),
    ]
}
