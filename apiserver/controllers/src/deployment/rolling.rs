//! How a rollout goes on: the new set grows as far as the surge allows, old ones shrink as far as availability allows
//! (`pkg/controller/deployment/rolling.go`, `recreate.go`).

use apimachinery::object::integer;
use serde_json::Value;

use super::Round;
use super::numbers::{limits, next_size, size, sum, wanted};

fn available(set: &Value) -> i64 {
    integer(set, "/status/availableReplicas").unwrap_or(0)
}

/// True if the new set got another size.
pub(super) fn grow_new(round: &mut Round<'_>) -> bool {
    let (deployment, old) = (round.deployment, sum(&round.old));
    let Some(new) = &mut round.new else { return false };
    let (now, wanted) = (size(new), wanted(deployment));
    let size = if now >= wanted { wanted } else { next_size(deployment, now, old) };
    Round::scale(deployment, new, size, &mut round.decision)
}

/// Recreate: all at once.
pub(super) fn fill_new(round: &mut Round<'_>) {
    let deployment = round.deployment;
    if let Some(new) = &mut round.new {
        Round::scale(deployment, new, wanted(deployment), &mut round.decision);
    }
}

/// Recreate: nothing old is left.
pub(super) fn empty_old(round: &mut Round<'_>) {
    for set in round.old.iter_mut().filter(|set| size(set) > 0) {
        Round::scale(round.deployment, set, 0, &mut round.decision);
    }
}

/// Takes pods from old sets: first those that are not available, then as many as the new set makes up for.
pub(super) fn shrink_old(round: &mut Round<'_>) {
    let Some(new) = &round.new else { return };
    let least = wanted(round.deployment) - limits(round.deployment).1;
    let not_yet = size(new) - available(new);
    let (all, old) = (sum(&round.old) + size(new), sum(&round.old));
    let mut room = all - least - not_yet;
    if old == 0 || room <= 0 {
        return;
    }
    for set in &mut round.old {
        let unhealthy = (size(set) - available(set)).min(room);
        if size(set) > 0 && unhealthy > 0 {
            let rest = size(set) - unhealthy;
            Round::scale(round.deployment, set, rest, &mut round.decision);
            room -= unhealthy;
        }
    }
    let ready: i64 = round.old.iter().map(|set| available(set).min(size(set))).sum::<i64>() + available(new);
    let mut surplus = (ready - least).min(room);
    for set in &mut round.old {
        let taken = size(set).min(surplus);
        if taken > 0 {
            let rest = size(set) - taken;
            Round::scale(round.deployment, set, rest, &mut round.decision);
            surplus -= taken;
        }
    }
}
