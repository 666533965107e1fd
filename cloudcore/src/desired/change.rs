//! A change of what one node should have, as sources tell it.

use message::{Json, ObjectKey};

use super::{NodeSet, Wanted};

/// Something a node's desired set must hear.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Put(Wanted),
    /// `may_return`: the object still exists, only this node has no use for it now.
    Remove {
        key: ObjectKey,
        uid: String,
        object: Json,
        may_return: bool,
    },
    /// The node object is gone.
    EndSession,
}

impl Change {
    /// Tells a connected node.
    pub fn apply_to(self, set: &NodeSet) {
        match self {
            Change::Put(wanted) => set.with(|desired| desired.put(wanted)),
            Change::Remove { key, uid, object, may_return } => {
                set.with(|desired| desired.remove(&key, &uid, object, may_return));
            }
            Change::EndSession => set.end_deleted(),
        }
    }
}
