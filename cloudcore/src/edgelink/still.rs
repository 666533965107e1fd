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
    /// Of `edges`, those whose lease has not changed since the look before. One without a lease tells nothing: another replica
    /// may have it.
    fn still<'a>(&mut self, leases: Vec<Meta>, edges: impl Iterator<Item = &'a String>) -> Vec<NodeName> {
        let now: HashMap<String, String> =
            leases.into_iter().map(|lease| (lease.name, lease.resource_version)).collect();
        let before = self.0.replace(now);
        let (Some(before), Some(now)) = (before, &self.0) else { return Vec::new() };
        let still = edges.filter(|node| before.get(*node).is_some_and(|seen| now.get(*node) == Some(seen)));
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
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::edgelink::Sessions;

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
        assert_eq!(still.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["still"]);
    }

    /// An API server with two edge nodes, of which one renews its lease; notes which nodes are patched.
    fn cluster(patched: Arc<Mutex<Vec<String>>>) -> Cluster {
        let began = Instant::now();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (path, now) = (request.uri().path().to_owned(), began.elapsed().as_secs());
            let version = |name: &str| if name == "renews" { now.to_string() } else { "1".to_owned() };
            let answer = if request.method() == Method::PATCH {
                patched.lock().unwrap().push(path);
                json!({})
            } else if path.ends_with("/leases") {
                let items = ["renews", "still"]
                    .map(|name| json!({"metadata": {"name": name, "resourceVersion": version(name)}}));
                json!({"metadata": {}, "items": items})
            } else {
                let name = path.rsplit('/').next().unwrap_or_default();
                json!({"metadata": {"name": name, "resourceVersion": "7"}, "spec": {"renewTime": version(name)}})
            };
            async move { Ok::<_, Infallible>(Response::new(Body::from(answer.to_string().into_bytes()))) }
        });
        Cluster::with_client(kube::Client::new(service, "default"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_was_lost_while_nobody_looked_is_told_and_those_that_live_are_not() {
        let (links, patched) = (EdgeLinks::default(), Arc::<Mutex<Vec<String>>>::default());
        for name in ["renews", "still", "master"] {
            let labels = if name == "master" { json!({}) } else { json!({EDGE: ""}) };
            let node = Json::of(&json!({"metadata": {"name": name, "labels": labels}}));
            links.saw_node(&lease(name, "1"), &node);
        }
        let (cluster, stop) = (cluster(patched.clone()), CancellationToken::new());
        let looks = links.look_while_leading(cluster.clone(), stop.clone());
        let told = links.clone().run(|_| Sessions::default(), cluster, stop.clone());
        let time = tokio::time::sleep(3 * EVERY);
        tokio::select! {
            () = looks => {}
            _ = told => {}
            () = time => {}
        }
        let patched: Vec<String> = patched.lock().unwrap().clone();
        let of = |name: &str| patched.iter().filter(|path| path.contains(&format!("/nodes/{name}"))).count();
        assert!(of("still") >= 2, "its condition and its taint: {patched:?}");
        assert_eq!((of("renews"), of("master")), (0, 0), "{patched:?}");
    }

    #[test]
    fn an_edge_is_told_by_its_label() {
        let node =
            |labels: Value| Json::of(&json!({"metadata": {"labels": labels, "annotations": {"x": EDGE}}}));
        assert!(is_edge(&node(json!({EDGE: ""}))));
        assert!(!is_edge(&node(json!({"a": "b"}))));
    }
}
