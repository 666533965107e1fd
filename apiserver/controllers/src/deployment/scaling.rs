//! A Deployment that was given another size in the middle of a rollout: its sets grow and shrink in proportion
//! (`scale` of `pkg/controller/deployment/sync.go`).

use apimachinery::object::{integer, text};
use serde_json::Value;

use super::Round;
use super::numbers::{desired, maximum, size, surge, wanted};

/// True if a set with pods was last seen under another size of the Deployment.
pub(super) fn is_due(round: &Round<'_>) -> bool {
    let wanted = wanted(round.deployment);
    round.all().filter(|set| size(set) > 0).any(|set| desired(set).is_some_and(|desired| desired != wanted))
}

pub(super) fn scale(round: &mut Round<'_>) {
    let (deployment, wanted) = (round.deployment, wanted(round.deployment));
    let decision = &mut round.decision;
    let mut sets: Vec<&mut Value> = round.old.iter_mut().chain(round.new.iter_mut()).collect();
    let active: Vec<usize> = (0..sets.len()).filter(|at| size(sets[*at]) > 0).collect();
    if active.len() <= 1 {
        let only = active.first().copied().or_else(|| sets.len().checked_sub(1));
        if let Some(at) = only {
            Round::scale(deployment, sets[at], wanted, decision);
        }
        return;
    }
    let is_rolling = text(deployment, "/spec/strategy/type") != "Recreate";
    if let Some(new) = &round.new
        && is_saturated(new, wanted)
    {
        for set in round.old.iter_mut().filter(|set| size(set) > 0) {
            Round::scale(deployment, set, 0, decision);
        }
        return;
    }
    if !is_rolling {
        return;
    }
    let mut sets: Vec<&mut Value> = round.old.iter_mut().chain(round.new.iter_mut()).collect();
    let total: i64 = sets.iter().map(|set| size(set)).sum();
    let to_add = wanted + surge(deployment) - total;
    let mut order = active;
    // The largest first; of equals the newest if there is more to come, the oldest if less.
    order.sort_by_key(|at| {
        let age = if to_add > 0 { usize::MAX - at } else { *at };
        (-size(sets[*at]), age)
    });
    let mut added = 0;
    let mut sizes: Vec<(usize, i64)> = Vec::new();
    for at in &order {
        let share = if to_add == 0 { 0 } else { proportion(sets[*at], deployment, to_add, added) };
        sizes.push((*at, size(sets[*at]) + share));
        added += share;
    }
    if let Some(first) = sizes.first_mut() {
        first.1 = (first.1 + to_add - added).max(0);
    }
    for (at, size) in sizes {
        Round::scale(deployment, sets[at], size, decision);
    }
}

/// True for a new set that has all pods and says that they are available.
fn is_saturated(set: &Value, wanted: i64) -> bool {
    let available = integer(set, "/status/availableReplicas").unwrap_or(0);
    size(set) == wanted && desired(set) == Some(wanted) && available == wanted
}

/// The part of `to_add` that falls to a set, no more than what is left of it.
fn proportion(set: &Value, deployment: &Value, to_add: i64, added: i64) -> i64 {
    let most = wanted(deployment) + surge(deployment);
    let before = maximum(set).filter(|before| *before > 0).unwrap_or(most);
    let left = to_add - added;
    // Rounded to the nearest, half away from zero.
    let scaled = (2 * size(set) * most + before) / (2 * before);
    let share = scaled - size(set);
    if to_add > 0 { share.min(left) } else { share.max(left) }
}
