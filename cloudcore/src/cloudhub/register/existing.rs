//! Whether a token may join a machine under the name of a node that exists. Who holds any token could otherwise be any
//! node, and read what is that node's.

use hyper::StatusCode;
use message::NodeName;

use super::RegisterRefusal;
use crate::kubernetes::{Cluster, Resource};

/// Refuses a certificate for `node` if its object exists. `meant`: the operator says that the token is good for such
/// names. A server that cannot say decides nothing: the machine tries again.
pub(super) async fn check(cluster: &Cluster, node: &NodeName, meant: bool) -> Result<(), RegisterRefusal> {
    if meant {
        return Ok(());
    }
    match cluster.get(&Resource::Nodes.path(None, node.as_str())).await {
        Err(status) if status.is_not_found() => Ok(()),
        Err(status) => {
            let text = format!("looking whether node {node} exists: {}", status.message);
            Err(RegisterRefusal(StatusCode::SERVICE_UNAVAILABLE, text))
        }
        Ok(_) => Err(RegisterRefusal(
            StatusCode::CONFLICT,
            format!(
                "node {node} exists, and this token is for new nodes: give this machine a name of its own \
                 (--edgenode-name), or, if it takes the place of that node, a token of keadm gettoken --existing-nodes; \
                 keadm node remove {node} frees the name"
            ),
        )),
    }
}
