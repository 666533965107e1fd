//! What the hub needs of those who carry out what nodes send up.

use futures_util::future::BoxFuture;
use message::{Message, NodeName, Upstream};

/// A message among the rows of a node's outbox. It keeps its number when it is sent again.
#[derive(Clone, Debug)]
pub struct Row {
    /// Identity of the node's database.
    pub store: String,
    pub seq: u64,
}

/// Authorises messages of nodes and carries them out.
pub trait Upstreams: Send + Sync {
    /// Carries out a live request once; `upstream` is what `asked` says. The answer, if the dialect has one, says what came of it.
    fn answer<'a>(
        &'a self,
        node: &'a NodeName,
        asked: &'a Message,
        upstream: &'a Upstream,
    ) -> BoxFuture<'a, Option<Box<Message>>>;

    /// Tries until it is done for good; the caller keeps messages of one key in order. What was given up is counted.
    fn carry_out_for_good<'a>(
        &'a self,
        node: &'a NodeName,
        asked: &'a Message,
        upstream: &'a Upstream,
        row: Option<Row>,
    ) -> BoxFuture<'a, Option<Box<Message>>>;
}
