//! What nodes have acknowledged, remembered for those of KubeEdge's dialect (docs/protocol/transport.md 3.7).

use message::{ObjectKey, ResourceVersion};

use super::Settled;

/// Remembers over the end of a session, and of this process.
pub trait Records: Send + Sync {
    /// What `node` is known to have: the object, its uid, and the version it acknowledged.
    fn known(&self, node: &str) -> Vec<(ObjectKey, String, ResourceVersion)>;

    /// `node` acknowledged an object or its removal.
    fn record(&self, node: &str, settled: Settled);
}
