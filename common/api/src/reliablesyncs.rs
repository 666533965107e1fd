//! ObjectSync and ClusterObjectSync: what KubeEdge-dialect edges have acknowledged (docs/protocol/transport.md 3.7).

use serde::{Deserialize, Serialize};

pub const GROUP: &str = "reliablesyncs.kubeedge.io";
pub const VERSION: &str = "v1alpha1";

/// `status.objectResourceVersion` of an object that was never acknowledged.
pub const NEVER: &str = "0";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    #[serde(rename = "objectAPIVersion")]
    pub object_api_version: String,
    pub object_kind: String,
    pub object_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    pub object_resource_version: String,
}

/// `<node>.<uid>`.
pub fn name(node: &str, uid: &str) -> String {
    format!("{node}.{uid}")
}

/// (node, uid): the node is everything before the last dot.
pub fn split_name(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_node_name_with_dots_is_everything_before_the_last() {
        let name = super::name("edge.site-1", "9a3c1c9e-0000-4000-8000-000000000001");
        assert_eq!(super::split_name(&name), Some(("edge.site-1", "9a3c1c9e-0000-4000-8000-000000000001")));
    }
}
