//! Edge nodes whose leases nobody renews: links that were lost while no CloudCore was there to see it, or with the one that had
//! them. One replica looks, for all.

use std::collections::HashMap;
use std::time::Duration;

use apimachinery::kinds::{NODE_LEASES, lines};
use message::{Json, NodeName};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{EdgeLinks, Told};
use crate::kubernetes::{Cluster, Meta, WorkEnded, lead};

const SINGLETON: &str = "edge-links";
/// Between two looks at all leases, and before the first: nodes come back one after the other when CloudCore has started.
const EVERY: Duration = Duration::from_secs(60);
/// Label of edge nodes, KubeEdge's as well.
const EDGE: &str = "node-role.kubernetes.io/edge";

/// True if a node object is an edge's. Most nodes have no such word in their text.
pub(super) fn is_edge(node: &Json) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Node {
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        labels: HashMap<String, String>,
    }
    let labels = || node.parse::<Node>().unwrap_or_default().metadata.labels;
    node.text().contains(EDGE) && labels().contains_key(EDGE)
}

/// Versions of leases by the names of nodes, as the look before saw them.
#[derive(Default)]
struct Before(Option<HashMap<String, String>>);

impl Before {
    /// Of `edges`, those whose lease has not changed since the look before, or that have had none at both.
    fn still<'a>(&mut self, leases: Vec<Meta>, edges: impl Iterator<Item = &'a String>) -> Vec<NodeName> {
        let now: HashMap<String, String> =
            leases.into_iter().map(|lease| (lease.name, lease.resource_version)).collect();
        let before = self.0.replace(now);
        let (Some(before), Some(now)) = (before, &self.0) else { return Vec::new() };
        let still = edges.filter(|node| before.get(*node) == now.get(*node));
        still.filter_map(|node| NodeName::new(node).ok()).collect()
    }
}

impl EdgeLinks {
    /// Looks at the leases of all edge nodes while this replica leads, until stopped.
    ///
    /// # Errors
    /// [`WorkEnded`], as [`lead`]'s.
    pub async fn look_at_leases(self, cluster: Cluster, stop: CancellationToken) -> Result<(), WorkEnded> {
        let work = |until: CancellationToken| {
            let (links, cluster) = (self.clone(), cluster.clone());
            async move { links.look_while_leading(cluster, until).await }
        };
        lead(cluster.clone(), SINGLETON, stop, work).await
    }

    async fn look_while_leading(&self, cluster: Cluster, until: CancellationToken) {
        let mut before = Before::default();
        loop {
            tokio::select! {
                biased;
                () = until.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match cluster.list_metadata(&lines::Lease.path(Some(NODE_LEASES), "")).await {
                Ok(leases) => {
                    let mut seen = self.seen();
                    let lost = &seen.lost;
                    let untold = seen.edges.iter().filter(|node| lost.get(*node) != Some(&Told::All));
                    let still = before.still(leases, untold);
                    seen.still = still;
                }
                Err(status) => tracing::debug!(error = %status, "leases of nodes not looked at"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(name: &str, version: &str) -> Meta {
        Meta { name: name.to_owned(), resource_version: version.to_owned(), ..Meta::default() }
    }

    #[test]
    fn a_lease_that_nobody_renews_is_that_of_a_lost_link_and_one_look_decides_nothing() {
        let edges = ["renewed", "still", "without"].map(str::to_owned);
        let mut before = Before::default();
        let first = vec![lease("renewed", "1"), lease("still", "2"), lease("other", "3")];
        assert!(before.still(first, edges.iter()).is_empty());
        let second = vec![lease("renewed", "9"), lease("still", "2"), lease("other", "3")];
        let still = before.still(second, edges.iter());
        assert_eq!(still.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["still", "without"]);
    }

    #[test]
    fn an_edge_is_told_by_its_label() {
        let node = |labels: serde_json::Value| {
            Json::of(&json!({"metadata": {"labels": labels, "annotations": {"x": EDGE}}}))
        };
        assert!(is_edge(&node(json!({EDGE: ""}))));
        assert!(!is_edge(&node(json!({"a": "b"}))));
    }
}
