//! Terms of affinities as pods have them: which pods they select, and by which label nodes are one domain.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use apimachinery::LabelSelector;
use apimachinery::object::{integer, list, text};
use serde_json::Value;

/// One term of an affinity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Term {
    /// `None` selects no pod.
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    /// Of namespaces, beside those that are named.
    by_labels: Option<LabelSelector>,
    pub key: String,
}

/// The labels of each namespace.
pub(crate) type Namespaces = HashMap<String, BTreeMap<String, String>>;

impl Term {
    fn of(pod: &Value, term: &Value) -> Term {
        let read = |field: &str| match &term[field] {
            Value::Null => None,
            found => LabelSelector::of_object(found, field).ok(),
        };
        let by_labels = read("namespaceSelector");
        let mut namespaces: BTreeSet<String> =
            list(term, "/namespaces").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if namespaces.is_empty() && by_labels.is_none() {
            namespaces.insert(apimachinery::object::namespace(pod).to_owned());
        }
        Term {
            selector: with_keys(pod, term),
            namespaces,
            by_labels,
            key: text(term, "/topologyKey").to_owned(),
        }
    }

    /// True for a pod of this namespace with these labels.
    pub(crate) fn selects(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        namespaces: &Namespaces,
    ) -> bool {
        let by_labels = |selector: &LabelSelector| match namespaces.get(namespace) {
            Some(labels) => selector.matches(labels),
            None => selector.is_everything(),
        };
        let inside = self.namespaces.contains(namespace) || self.by_labels.as_ref().is_some_and(by_labels);
        inside && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// The label selector of a term or constraint, narrowed by its `matchLabelKeys` and `mismatchLabelKeys`.
pub(crate) fn with_keys(pod: &Value, term: &Value) -> Option<LabelSelector> {
    if term["labelSelector"].is_null() {
        return None;
    }
    let mut selector = term["labelSelector"].clone();
    let mut more = list(&selector, "/matchExpressions").to_vec();
    for (field, operator) in [("/matchLabelKeys", "In"), ("/mismatchLabelKeys", "NotIn")] {
        for key in list(term, field).iter().filter_map(Value::as_str) {
            if let Some(value) = pod["metadata"]["labels"][key].as_str() {
                more.push(serde_json::json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if !more.is_empty() {
        selector["matchExpressions"] = Value::Array(more);
    }
    LabelSelector::of_object(&selector, "labelSelector").ok()
}

/// The required terms of `podAffinity` or `podAntiAffinity`.
pub(crate) fn required(pod: &Value, kind: &str) -> Vec<Term> {
    let terms = list(&pod["spec"]["affinity"][kind], "/requiredDuringSchedulingIgnoredDuringExecution");
    terms.iter().map(|term| Term::of(pod, term)).collect()
}

/// The preferred terms, with their weights.
pub(crate) fn preferred(pod: &Value, kind: &str, sign: i64) -> Vec<(i64, Term)> {
    let terms = list(&pod["spec"]["affinity"][kind], "/preferredDuringSchedulingIgnoredDuringExecution");
    let read = |term: &Value| {
        let weight = integer(term, "/weight").unwrap_or(0);
        (sign * weight, Term::of(pod, &term["podAffinityTerm"]))
    };
    terms.iter().map(read).collect()
}
