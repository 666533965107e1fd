//! What the cloud says of the node where the node knows better: it may have been given up while it could not be heard.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

/// What Kubernetes puts on a node that it has not heard of, or that was not ready (`node-lifecycle-controller`).
const GIVEN_UP: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// The node's state in the words of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Condition -> its status.
    pub conditions: BTreeMap<String, String>,
    /// It carries a taint of nodes that are not ready. Clouds that send no change of a mere status send this one.
    pub is_given_up: bool,
}

impl NodeView {
    pub fn of(node: &Node) -> NodeView {
        let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        let taints = node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten();
        NodeView {
            conditions: conditions.map(|told| (told.type_.clone(), told.status.clone())).collect(),
            is_given_up: taints.into_iter().any(|taint| GIVEN_UP.contains(&taint.key.as_str())),
        }
    }
}
