//! Cluster roles that are made of others (`aggregationRule`), as kube-controller-manager's `clusterroleaggregation` fills them.

use serde_json::Value;

use crate::object::{list, name};
use crate::selector::LabelSelector;

/// The rules that `role` is to have of `all` cluster roles; `None` if it is not made of others. Each rule once, in the order of the
/// roles' names. Of roles that are made of others themselves count those that they are made of, so that roles which choose each
/// other settle.
pub fn aggregated<'a>(role: &'a Value, all: &'a [Value]) -> Option<Vec<Value>> {
    is_aggregated(role).then(|| {
        let mut rules = Vec::new();
        collect(role, all, &mut vec![name(role)], &mut rules);
        rules
    })
}

fn is_aggregated(role: &Value) -> bool {
    role["aggregationRule"].is_object()
}

/// Adds the rules of what `role` is made of. `seen` are the names of roles that were looked at.
fn collect<'a>(role: &'a Value, all: &'a [Value], seen: &mut Vec<&'a str>, rules: &mut Vec<Value>) {
    let path = "aggregationRule.clusterRoleSelectors";
    let selectors: Vec<LabelSelector> = list(role, "/aggregationRule/clusterRoleSelectors")
        .iter()
        .filter_map(|selector| LabelSelector::of_object(selector, path).ok())
        .collect();
    let is_chosen = |other: &&Value| selectors.iter().any(|one| one.matches_object(other));
    let mut chosen: Vec<&Value> = all.iter().filter(is_chosen).collect();
    chosen.sort_by_key(|other| name(other));
    for other in chosen {
        if seen.contains(&name(other)) {
            continue;
        }
        seen.push(name(other));
        if is_aggregated(other) {
            collect(other, all, seen, rules);
            continue;
        }
        for rule in list(other, "/rules") {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
}
