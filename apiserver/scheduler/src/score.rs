//! Which of the nodes that a pod fits on is best: kube-scheduler's default plugins and weights, without the locality of images.

use apimachinery::object::{integer, list, text};
use controllers::placement;
use serde_json::Value;

use crate::filter::Candidate;
use crate::nodes::Node;

const MOST: i64 = 100;
/// Weights of `pkg/scheduler/apis/config/v1/default_plugins.go`.
const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const POD_AFFINITY: i64 = 2;

/// A score for each of `nodes`, which are those that the pod fits on; more is better.
pub(crate) fn scores(candidate: &Candidate<'_>, nodes: &[&Node]) -> Vec<i64> {
    let parts = [
        (1, nodes.iter().map(|node| emptiness(candidate, node)).collect()),
        (1, nodes.iter().map(|node| balance(candidate, node)).collect()),
        (TAINTS, scaled(nodes.iter().map(|node| dislikes(candidate.pod, node)).collect(), true)),
        (NODE_AFFINITY, scaled(nodes.iter().map(|node| preference(candidate.pod, node)).collect(), false)),
        (POD_AFFINITY, scaled(nodes.iter().map(|node| candidate.affinity.likes(node)).collect(), false)),
        (SPREAD, spread(candidate, nodes)),
    ];
    let total = |at: usize| parts.iter().map(|(weight, part): &(i64, Vec<i64>)| weight * part[at]).sum();
    (0..nodes.len()).map(total).collect()
}

/// Spreads values over 0 to 100; `reverse`: the least is best. All equal: nothing to choose by.
fn scaled(values: Vec<i64>, reverse: bool) -> Vec<i64> {
    let (least, most) =
        (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    let place = |value: i64| match most - least {
        0 => 0,
        range if reverse => MOST * (most - value) / range,
        range => MOST * (value - least) / range,
    };
    values.into_iter().map(place).collect()
}

/// What share of CPU and memory is taken with the pod there, in thousandths.
fn shares(candidate: &Candidate<'_>, node: &Node) -> [Option<i64>; 2] {
    let share = |name: &str, taken: i64| {
        let offered = node.offers.get(name).copied().filter(|offered| *offered > 0)?;
        Some(((i128::from(taken) * 1000 / i128::from(offered)) as i64).min(1000))
    };
    let (cpu, memory) = candidate.facts.weight;
    [share("cpu", node.weight.0 + cpu), share("memory", node.weight.1 + memory)]
}

fn emptiness(candidate: &Candidate<'_>, node: &Node) -> i64 {
    let free: Vec<i64> =
        shares(candidate, node).into_iter().flatten().map(|taken| (1000 - taken) / 10).collect();
    if free.is_empty() { 0 } else { free.iter().sum::<i64>() / free.len() as i64 }
}

/// Best if CPU and memory are taken alike.
fn balance(candidate: &Candidate<'_>, node: &Node) -> i64 {
    match shares(candidate, node) {
        [Some(cpu), Some(memory)] => MOST - (cpu - memory).abs() / 20,
        _ => 0,
    }
}

/// Taints that a pod would rather not meet.
fn dislikes(pod: &Value, node: &Node) -> i64 {
    let tolerations = list(pod, "/spec/tolerations");
    let taints = list(&node.object, "/spec/taints").iter();
    let disliked = taints.filter(|taint| {
        text(taint, "/effect") == "PreferNoSchedule"
            && !tolerations.iter().any(|one| placement::tolerates(one, taint))
    });
    disliked.count() as i64
}

fn preference(pod: &Value, node: &Node) -> i64 {
    let terms = list(pod, "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution");
    let held = terms.iter().filter(|term| placement::matches_term(&term["preference"], &node.object));
    held.filter_map(|term| integer(term, "/weight")).sum()
}

/// As the pod wishes; without wishes, pods of one owner go to different nodes.
fn spread(candidate: &Candidate<'_>, nodes: &[&Node]) -> Vec<i64> {
    let crowd = |node: &&Node| match candidate.spread.has_wishes() {
        true => candidate.spread.crowd(node),
        false => Some(brothers(candidate, node)),
    };
    let crowds: Vec<Option<i64>> = nodes.iter().map(crowd).collect();
    let worst = crowds.iter().flatten().max().copied().unwrap_or(0);
    scaled(crowds.into_iter().map(|crowd| crowd.unwrap_or(worst + 1)).collect(), true)
}

fn brothers(candidate: &Candidate<'_>, node: &Node) -> i64 {
    let owner = &candidate.facts.owner;
    let is_brother = |pod: &&std::sync::Arc<crate::facts::Facts>| !owner.is_empty() && pod.owner == *owner;
    node.pods.iter().filter(is_brother).count() as i64
}
