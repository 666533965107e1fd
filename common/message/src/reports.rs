//! Whole statuses, as edges sent them before they sent patches (docs/protocol/edge-runtime.md 1.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Json;

/// The whole status of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PodReport {
    /// Of the pod the edge means; another pod may have the name by now.
    #[serde(rename = "UID", default)]
    pub uid: String,
    pub name: String,
    pub status: Json,
}

/// The whole status of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeReport {
    pub status: Json,
    /// Kept as annotations of the node, by name of the resource.
    #[serde(default)]
    pub extend_resources: Option<BTreeMap<String, Json>>,
}
