//! Cluster roles that are made of others (`aggregationRule`), as kube-controller-manager's `clusterroleaggregation` fills them.

use serde_json::Value;

use crate::object::{list, name};
use crate::selector::LabelSelector;

/// The rules that `role` is to have of `all` cluster roles; `None` if it is not made of others. Each rule once, in the order of the
/// roles' names.
pub fn aggregated(role: &Value, all: &[Value]) -> Option<Vec<Value>> {
    let rule = role.get("aggregationRule").filter(|rule| rule.is_object())?;
    let path = "aggregationRule.clusterRoleSelectors";
    let selectors: Vec<LabelSelector> = list(rule, "/clusterRoleSelectors")
        .iter()
        .filter_map(|selector| LabelSelector::of_object(selector, path).ok())
        .collect();
    let chosen =
        |other: &&Value| name(other) != name(role) && selectors.iter().any(|one| one.matches_object(other));
    let mut others: Vec<&Value> = all.iter().filter(chosen).collect();
    others.sort_by_key(|other| name(other));
    let mut rules: Vec<Value> = Vec::new();
    for rule in others.iter().flat_map(|other| list(other, "/rules")) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(rules)
}
