//! Who asked for what, and what became of it: events of `audit.k8s.io/v1` at level `Metadata` and stage
//! `ResponseComplete`, one JSON document a line (docs/protocol/kubernetes-api.md 4).
//!
//! Told of are all requests but those for health and version, of doors and of this program itself; one whose client left
//! before its answer was made has no `responseStatus`. Of what was sent and answered there is nothing, nor of messages,
//! which may quote it; a proxied request is told without its query, which is another server's. A connection that is
//! upgraded is told when it is.
//!
//! No request waits for the log: lines wait in a bounded queue, a thread writes them, and those that find no room, or that
//! the disk does not take, are counted; the count is a line of its own, of the kind `LostEvents`.

mod event;
mod file;
mod log;

pub(crate) use event::Record;
pub use file::Settings;
pub use log::{Log, OpenError, Writer, open};
