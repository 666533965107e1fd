//! Condition `EdgeLink` of nodes: whether the link to CloudCore is up, beside Kubernetes' `Ready`, which cannot tell a lost link from
//! a dead node. While it is lost a taint keeps new pods away.
//!
//! ```text
//! cloudhub's sessions --each look--> who has left? --lease, twice: is it renewed through another replica?--> condition, taint
//!                                      ^
//! leader: leases of edge nodes that nobody renews --'   (links that were lost with a CloudCore)
//! ```
//!
//! A node that never lost its link carries no such condition: nothing is written for thousands that connect.

mod mark;
mod still;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::kinds::{NODE_LEASES, lines};
use message::{Json, NodeName, Status};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{Cluster, Meta};

/// How often sessions are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A link that is back within it was not lost.
const GRACE: Duration = Duration::from_secs(10);
/// A lease that is not renewed meanwhile is that of a node that is connected nowhere: nodes renew theirs each ten seconds.
const SILENT: Duration = Duration::from_secs(15);
/// Nodes that are asked for or written at once.
const AT_ONCE: usize = 16;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Up(NodeName),
    /// When was its lease renewed?
    Ask(NodeName),
    /// Its link is lost, if its lease still says that.
    Lost(NodeName, Renewed),
}

/// The `renewTime` of a lease, by the node's clock; `None`: there is no lease.
type Renewed = Option<String>;

/// A node that has left.
#[derive(Debug)]
struct Away {
    since: Instant,
    /// What its lease said then; `None`: nobody has looked.
    renewed: Option<Renewed>,
}

/// The sessions of this replica at a look.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    pub connected: HashSet<NodeName>,
    /// Whose sessions ended since the look before, however short they were.
    pub left: HashSet<NodeName>,
}

/// What is known of the links of this replica.
#[derive(Default)]
struct Links {
    connected: HashSet<NodeName>,
    left: HashMap<NodeName, Away>,
}

impl Links {
    /// What follows from who is connected now. `lost` are nodes of which it was told that their link is lost.
    fn step(&mut self, sessions: Sessions, lost: &Lost, now: Instant) -> Vec<Step> {
        let Sessions { connected: now_connected, left } = sessions;
        for node in self.connected.difference(&now_connected).chain(&left) {
            self.left.insert(node.clone(), Away { since: now, renewed: None });
        }
        self.left
            .retain(|node, _| !now_connected.contains(node) && lost.get(node.as_str()) != Some(&Told::All));
        let ups = now_connected.iter().filter(|node| lost.contains_key(node.as_str())).cloned().map(Step::Up);
        let mut steps: Vec<Step> = ups.collect();
        let is_over = |away: &Away| {
            let wait = if away.renewed.is_none() { GRACE } else { SILENT };
            now.duration_since(away.since) >= wait
        };
        let overdue = self.left.extract_if(|_, away| is_over(away));
        steps.extend(overdue.map(|(node, away)| match away.renewed {
            None => Step::Ask(node),
            Some(renewed) => Step::Lost(node, renewed),
        }));
        self.connected = now_connected;
        steps
    }

    /// Nodes whose leases nobody has renewed for a while: they are looked at as if they had left.
    fn suspect(&mut self, nodes: impl IntoIterator<Item = NodeName>, now: Instant) {
        for node in nodes.into_iter().filter(|node| !self.connected.contains(node)) {
            self.left.entry(node).or_insert(Away { since: now, renewed: None });
        }
    }

    /// The answer to [`Step::Ask`].
    fn heard(&mut self, node: NodeName, renewed: Renewed, now: Instant) {
        if !self.connected.contains(&node) {
            self.left.insert(node, Away { since: now, renewed: Some(renewed) });
        }
    }

    /// To be done again at the next look.
    fn again(&mut self, step: Step, now: Instant) {
        let before = |wait| now.checked_sub(wait).unwrap_or(now);
        let (node, away) = match step {
            // Its condition says the same at the next look.
            Step::Up(_) => return,
            Step::Ask(node) => (node, Away { since: before(GRACE), renewed: None }),
            Step::Lost(node, renewed) => (node, Away { since: before(SILENT), renewed: Some(renewed) }),
        };
        if !self.connected.contains(&node) {
            self.left.insert(node, away);
        }
    }
}

/// Nodes that are told to have lost their link.
type Lost = HashMap<String, Told>;

/// How much of it their objects say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Part,
    All,
}

/// What node objects say.
#[derive(Default)]
struct Seen {
    lost: Lost,
    /// Edge nodes there are.
    edges: HashSet<String>,
    /// Those of them whose leases are still, for the next look.
    still: Vec<NodeName>,
}

/// The room's handle. Clones share it.
#[derive(Clone, Default)]
pub struct EdgeLinks(Arc<Mutex<Seen>>);

impl EdgeLinks {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node as the watch shows it.
    pub fn saw_node(&self, meta: &Meta, object: &Json) {
        let says_something = mark::WORDS.iter().any(|word| object.text().contains(word));
        let told = says_something.then(|| told(&object.parse().unwrap_or_default())).flatten();
        let is_known = self.seen().edges.contains(&meta.name);
        let is_edge = !is_known && still::is_edge(object);
        let mut seen = self.seen();
        if is_edge {
            seen.edges.insert(meta.name.clone());
        }
        match told {
            Some(told) => seen.lost.insert(meta.name.clone(), told),
            None => seen.lost.remove(&meta.name),
        };
    }

    /// True for a node whose object says, in part at least, that its link is lost.
    pub fn is_lost(&self, node: &str) -> bool {
        self.seen().lost.contains_key(node)
    }

    pub fn node_gone(&self, meta: &Meta) {
        let mut seen = self.seen();
        seen.lost.remove(&meta.name);
        seen.edges.remove(&meta.name);
    }

    /// Follows the sessions of this replica until stopped. `sessions` names them, and those that ended after a moment.
    pub async fn run(
        self,
        sessions: impl Fn(Instant) -> Sessions + Send,
        cluster: Cluster,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut links = Links::default();
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = Instant::now();
            let sessions = sessions(std::mem::replace(&mut looked, now));
            let mut steps = {
                let mut seen = self.seen();
                let steps = links.step(sessions, &seen.lost, now);
                links.suspect(std::mem::take(&mut seen.still), now);
                steps
            };
            while !steps.is_empty() {
                let rest = steps.split_off(steps.len().min(AT_ONCE));
                let done = steps.iter().map(|step| carry_out(&cluster, step));
                let done = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    done = futures_util::future::join_all(done) => done,
                };
                let now = Instant::now();
                for (step, done) in steps.into_iter().zip(done) {
                    match (step, done) {
                        (Step::Ask(node), Ok(renewed)) => links.heard(node, renewed, now),
                        (_, Ok(_)) => {}
                        (step, Err(status)) => {
                            tracing::debug!(step = ?step, error = %status, "link of a node not told, trying again");
                            links.again(step, now);
                        }
                    }
                }
                steps = rest;
            }
        }
    }
}

fn told(node: &Value) -> Option<Told> {
    match (mark::says_lost(node), mark::is_tainted(node)) {
        (true, true) => Some(Told::All),
        (false, false) => None,
        _ => Some(Told::Part),
    }
}

/// The result is the answer to [`Step::Ask`].
async fn carry_out(cluster: &Cluster, step: &Step) -> Result<Renewed, Status> {
    match step {
        Step::Ask(node) => return renewed(cluster, node).await,
        Step::Up(node) => mark::up(cluster, node).await?,
        Step::Lost(node, before) => {
            // A lease that is renewed is that of a node that another replica has.
            if renewed(cluster, node).await? == *before {
                mark::lost(cluster, node, before.as_deref()).await?;
            }
        }
    }
    Ok(None)
}

/// When the node's lease was renewed.
async fn renewed(cluster: &Cluster, node: &NodeName) -> Result<Renewed, Status> {
    match cluster.get(&lines::Lease.path(Some(NODE_LEASES), node.as_str())).await {
        Ok(lease) => {
            let lease: Value = lease.parse().unwrap_or_default();
            Ok(lease["spec"]["renewTime"].as_str().map(str::to_owned))
        }
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(node: &str) -> NodeName {
        NodeName::new(node).unwrap()
    }

    fn set(nodes: &[&str]) -> Sessions {
        Sessions { connected: nodes.iter().map(|node| name(node)).collect(), left: HashSet::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_between_two_looks_and_a_lease_that_is_still_are_looked_at_too() {
        let (mut links, nobody) = (Links::default(), Lost::new());
        let short = Sessions { left: [name("a"), name("b")].into(), ..set(&["b"]) };
        assert_eq!(links.step(short, &nobody, Instant::now()), []);
        links.suspect([name("b"), name("c")], Instant::now());
        tokio::time::advance(GRACE).await;
        let mut asked = links.step(set(&["b"]), &nobody, Instant::now());
        asked.sort_by_key(|step| format!("{step:?}"));
        assert_eq!(asked, [Step::Ask(name("a")), Step::Ask(name("c"))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_lost_once_its_lease_is_still_and_up_at_once_and_most_nodes_are_never_told_of() {
        let (mut links, nobody) = (Links::default(), Lost::new());
        let lost = |told| Lost::from([("a".to_owned(), told)]);
        let none: Vec<Step> = Vec::new();
        assert_eq!(links.step(set(&["a", "b"]), &nobody, Instant::now()), none);
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), none);
        tokio::time::advance(GRACE / 2).await;
        assert_eq!(links.step(set(&["a", "b"]), &nobody, Instant::now()), none, "it was back in time");
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), none);
        tokio::time::advance(GRACE).await;
        let ask = Step::Ask(name("a"));
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), std::slice::from_ref(&ask));
        links.again(ask.clone(), Instant::now());
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), [ask]);
        links.heard(name("a"), Some("t".to_owned()), Instant::now());
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), none, "it may be renewed elsewhere");
        tokio::time::advance(SILENT).await;
        let told = Step::Lost(name("a"), Some("t".to_owned()));
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), std::slice::from_ref(&told));
        links.again(told.clone(), Instant::now());
        assert_eq!(links.step(set(&["b"]), &nobody, Instant::now()), std::slice::from_ref(&told));
        links.again(told.clone(), Instant::now());
        assert_eq!(links.step(set(&["b"]), &lost(Told::Part), Instant::now()), [told]);
        assert_eq!(links.step(set(&["b"]), &lost(Told::All), Instant::now()), none);
        assert_eq!(links.step(set(&["a", "b"]), &lost(Told::Part), Instant::now()), [Step::Up(name("a"))]);
        assert_eq!(links.step(set(&["a", "b"]), &nobody, Instant::now()), none);
    }

    #[test]
    fn what_a_node_object_says_is_read() {
        let node = |status: &str, taints: Value| {
            told(&json!({"spec": {"taints": taints}, "status": {"conditions": [
                {"type": "Ready", "status": "False"}, {"type": "EdgeLink", "status": status}]}}))
        };
        let taint = || json!([{"key": "causeway.io/link-lost", "effect": "NoSchedule"}]);
        assert_eq!(node("False", taint()), Some(Told::All));
        assert_eq!(node("False", json!([])), Some(Told::Part));
        assert_eq!(node("True", taint()), Some(Told::Part));
        assert_eq!(node("True", Value::Null), None);
        assert_eq!(told(&json!({})), None);
    }
}
