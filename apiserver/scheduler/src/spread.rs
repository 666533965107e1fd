//! Pods spread over domains (`plugins/podtopologyspread`).

use std::collections::HashMap;

use apimachinery::LabelSelector;
use apimachinery::object::{integer, list, text};
use controllers::placement;
use serde_json::Value;

use crate::facts::Facts;
use crate::nodes::Node;
use crate::terms::with_keys;

#[derive(Debug)]
struct Constraint {
    key: String,
    skew: i64,
    /// The pod itself counts.
    counts_itself: bool,
    /// Pods of interest in each domain.
    domains: HashMap<String, i64>,
    /// Of the emptiest domain.
    least: i64,
}

/// The constraints of a pod, counted over all nodes.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    must: Vec<Constraint>,
    should: Vec<Constraint>,
}

impl Spread {
    pub(crate) fn of(pod: &Value, facts: &Facts, nodes: &[Node]) -> Spread {
        let mut spread = Spread::default();
        let all = list(pod, "/spec/topologySpreadConstraints");
        let (must, should): (Vec<&Value>, Vec<&Value>) =
            all.iter().partition(|one| text(one, "/whenUnsatisfiable") != "ScheduleAnyway");
        for (group, into) in [(must, &mut spread.must), (should, &mut spread.should)] {
            let keys: Vec<&str> = group.iter().map(|one| text(one, "/topologyKey")).collect();
            into.extend(group.iter().map(|one| constraint(one, &keys, (pod, facts), nodes)));
        }
        spread
    }

    pub(crate) fn reason(&self, node: &Node) -> Option<String> {
        const REASON: &str = "node(s) didn't match pod topology spread constraints";
        for constraint in &self.must {
            let Some(domain) = node.label(&constraint.key) else {
                return Some(format!("{REASON} (missing required label)"));
            };
            let there = constraint.domains.get(domain).copied().unwrap_or(0);
            if there + i64::from(constraint.counts_itself) - constraint.least > constraint.skew {
                return Some(REASON.to_owned());
            }
        }
        None
    }

    /// Pods of interest in the domains of a node: fewer are better. `None`: the node is in no domain.
    pub(crate) fn crowd(&self, node: &Node) -> Option<i64> {
        let here = |constraint: &Constraint| {
            let domain = node.label(&constraint.key)?;
            Some(constraint.domains.get(domain).copied().unwrap_or(0))
        };
        self.should.iter().map(here).sum()
    }

    pub(crate) fn has_wishes(&self) -> bool {
        !self.should.is_empty()
    }
}

fn constraint(value: &Value, keys: &[&str], (pod, facts): (&Value, &Facts), nodes: &[Node]) -> Constraint {
    let key = text(value, "/topologyKey").to_owned();
    let selector = with_keys(pod, value);
    let selects =
        |labels: &_| selector.as_ref().is_some_and(|selector: &LabelSelector| selector.matches(labels));
    let mut domains: HashMap<String, i64> = HashMap::new();
    for node in nodes.iter().filter(|node| counts(value, keys, pod, node)) {
        let Some(domain) = node.label(&key) else { continue };
        let counted = |other: &&std::sync::Arc<Facts>| {
            other.namespace == facts.namespace && !other.leaving && selects(&other.labels)
        };
        let found = node.pods.iter().filter(counted).count();
        *domains.entry(domain.to_owned()).or_default() += i64::try_from(found).unwrap_or(i64::MAX);
    }
    let too_few = integer(value, "/minDomains").is_some_and(|least| (domains.len() as i64) < least);
    let least = if too_few { 0 } else { domains.values().copied().min().unwrap_or(0) };
    let skew = integer(value, "/maxSkew").unwrap_or(1);
    Constraint { key, skew, counts_itself: selects(&facts.labels), domains, least }
}

/// True for a node whose domain counts for a constraint.
fn counts(constraint: &Value, keys: &[&str], pod: &Value, node: &Node) -> bool {
    let honours_affinity = text(constraint, "/nodeAffinityPolicy") != "Ignore";
    let honours_taints = text(constraint, "/nodeTaintsPolicy") == "Honor";
    let (tolerations, taints) = (list(pod, "/spec/tolerations"), list(&node.object, "/spec/taints"));
    let tolerated = || placement::untolerated(tolerations, taints, &["NoSchedule", "NoExecute"]).is_none();
    keys.iter().all(|key| node.label(key).is_some())
        && (!honours_affinity || placement::selects(&pod["spec"], &node.object))
        && (!honours_taints || tolerated())
}
