//! Nodes that were put out: whose certificates and join tokens no port takes, on every replica.
//!
//! ```text
//! config map kubeedge/refused-nodes --watch--> list --> the hub: who comes, and who is here
//! node object deleted --> deleted --patch--> the config map
//! ```
//!
//! The list is [`api::refused`]; operators write it with `keadm node`. It outlives certificate authorities, restarts and
//! replicas. Edges are let in once it was read.

mod deleted;

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use api::refused::{self, Presented, RefusedNode};
use message::{Json, NodeName};
use pki::{EdgeSubject, Subject};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{Follower, Resource, WatchEvent};
pub use deleted::{Deleted, record_deleted};

/// What this room watches.
pub const WATCHED: &[Resource] = &[Resource::RefusedNodes];

/// Whose certificate a connection presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The certificate's node; the one the connection speaks for where the certificate is of none.
    pub node: String,
    /// The certificate's first second (Unix).
    pub begins: i64,
    pub serial: String,
}

impl Holder {
    /// `certificate` (DER) was verified.
    pub fn of(certificate: &[u8], named: &NodeName) -> Holder {
        let node = EdgeSubject::of(certificate).map_or_else(|_| named.to_string(), |subject| subject.node);
        let subject = Subject::of(certificate).ok();
        let (begins, serial) =
            subject.map(|subject| (subject.not_before, subject.serial)).unwrap_or_default();
        Holder { node, begins, serial }
    }
}

/// The list as this replica saw it last. Clones share it.
#[derive(Clone, Default)]
pub struct RefusedNodes {
    list: Arc<RwLock<refused::Refused>>,
}

impl RefusedNodes {
    fn read<T>(&self, look: impl FnOnce(&refused::Refused) -> T) -> T {
        look(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses whoever speaks for `node` with the certificate of `holder`, if it is on the list; the text is for its
    /// operator.
    pub fn check(&self, node: &NodeName, holder: &Holder) -> Result<(), String> {
        self.read(|list| {
            [node.as_str(), &holder.node].into_iter().try_for_each(|name| {
                let presented = Presented { node: name, begins: holder.begins, serial: &holder.serial };
                list.of_certificate(&presented).map_or(Ok(()), |entry| Err(text(name, entry)))
            })
        })
    }

    /// Refuses a join token for `node`, if all who come by that name are refused.
    pub fn check_join(&self, node: &NodeName) -> Result<(), String> {
        self.read(|list| list.of_join(node.as_str()).map_or(Ok(()), |entry| Err(text(node.as_str(), entry))))
    }

    /// The first second a new certificate of `node` may have, so that it is not taken for one of those refused.
    pub fn begins_after(&self, node: &NodeName) -> Option<i64> {
        self.read(|list| list.begins_after(node.as_str()))
    }

    /// Tells which deletions are written down.
    pub fn show(&self, deleted: &Deleted) {
        self.read(|list| deleted.seen(list));
    }

    /// Takes in what the watch sees, until stopped. `changed` hears of each new list, to end the sessions of who is on it.
    pub async fn run(
        self,
        changed: impl Fn(&RefusedNodes) + Send,
        mut follower: Follower,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        while let Some((_, event)) = follower.next(&stop).await {
            let _busy = follower.busy();
            let list = match event {
                WatchEvent::Put { object, .. } => match read_map(&object) {
                    Some(list) => list,
                    None => {
                        tracing::error!(
                            "config map kubeedge/refused-nodes cannot be read, the list before it counts on; keadm node list shows what it says"
                        );
                        continue;
                    }
                },
                WatchEvent::Gone { .. } => refused::Refused::default(),
                WatchEvent::Synced => continue,
            };
            tracing::info!(entries = list.entries().len(), "list of refused nodes read");
            *self.list.write().unwrap_or_else(PoisonError::into_inner) = list;
            changed(&self);
        }
        Ok(())
    }
}

fn read_map(object: &Json) -> Option<refused::Refused> {
    refused::Refused::of_map(&object.parse::<Value>().ok()?)
}

/// What the operator of a machine reads that is refused as `node`.
fn text(node: &str, entry: &RefusedNode) -> String {
    let why = if entry.reason.is_empty() { "no reason was given" } else { &entry.reason };
    let cure = match entry.begins_until {
        Some(_) => {
            "join this machine again with a token of keadm gettoken, or let its certificate in with keadm node allow"
        }
        None => "keadm node allow lets it in",
    };
    let since = if entry.since.is_empty() { String::new() } else { format!(" since {}", entry.since) };
    format!("node {node} is refused{since}: {why}; {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nodes(data: serde_json::Value) -> RefusedNodes {
        let nodes = RefusedNodes::default();
        *nodes.list.write().unwrap() = read_map(&Json::encode(&json!({"data": data})).unwrap()).unwrap();
        nodes
    }

    #[test]
    fn a_refused_node_is_told_why_and_what_helps() {
        let nodes = nodes(json!({"gone": r#"{"beginsUntil": 100, "reason": "its node object was deleted"}"#,
            "bad": r#"{"reason": "stolen"}"#}));
        let name = |name: &str| NodeName::new(name).unwrap();
        let holder = |node: &str| Holder { node: node.to_owned(), begins: 100, serial: "1".to_owned() };
        let text = nodes.check(&name("gone"), &holder("gone")).unwrap_err();
        assert!(text.contains("deleted") && text.contains("join this machine again"), "{text}");
        let text = nodes.check_join(&name("bad")).unwrap_err();
        assert!(text.contains("stolen") && text.contains("keadm node allow"), "{text}");
        assert!(nodes.check(&name("good"), &holder("bad")).is_err(), "by whatever name it comes");
        assert_eq!(nodes.check(&name("good"), &holder("good")), Ok(()));
        assert_eq!(nodes.check_join(&name("gone")), Ok(()));
    }
}
