//! What nodes have acknowledged, remembered for those of KubeEdge's dialect (docs/protocol/transport.md 3.7).

use futures_util::future::BoxFuture;
use message::{ObjectKey, ResourceVersion};

use super::Settled;

/// Remembers over the end of a session, and of this process.
pub trait Records: Send + Sync {
    /// What `node` is known to have: the object, its uid, and the version it acknowledged; no version where that may be lost.
    fn known(&self, node: &str) -> Vec<(ObjectKey, String, ResourceVersion)>;

    /// `node` acknowledged an object or its removal.
    fn record(&self, node: &str, settled: Settled);

    /// `node` may not have an object from now on. The answer is true once that is remembered for good, and false if it could not
    /// be.
    fn doubt(&self, node: &str, key: ObjectKey, uid: String) -> BoxFuture<'static, bool>;

    /// `node` has started, perhaps with an empty database: what is recorded of it does not count before it has everything, even
    /// if its session ends earlier.
    fn start_over(&self, node: &str);

    /// True if `node` has not got everything since it started.
    fn owes_everything(&self, node: &str) -> bool;

    /// `node` has everything.
    fn has_everything(&self, node: &str);
}
