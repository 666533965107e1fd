//! Pods that want to be near others, or away from them (`plugins/interpodaffinity`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use apimachinery::LabelSelector;
use apimachinery::object::{integer, list, text};
use serde_json::Value;

use crate::facts::Facts;
use crate::nodes::Node;

/// One term of an affinity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Term {
    /// `None` selects no pod.
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    /// Of namespaces, beside those that are named.
    by_labels: Option<LabelSelector>,
    key: String,
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

    fn selects(&self, pod: &Facts, namespaces: &Namespaces) -> bool {
        let by_labels = |selector: &LabelSelector| match namespaces.get(&pod.namespace) {
            Some(labels) => selector.matches(labels),
            None => selector.is_everything(),
        };
        let inside =
            self.namespaces.contains(&pod.namespace) || self.by_labels.as_ref().is_some_and(by_labels);
        inside && self.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
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
fn preferred(pod: &Value, kind: &str, sign: i64) -> Vec<(i64, Term)> {
    let terms = list(&pod["spec"]["affinity"][kind], "/preferredDuringSchedulingIgnoredDuringExecution");
    let read = |term: &Value| {
        let weight = integer(term, "/weight").unwrap_or(0);
        (sign * weight, Term::of(pod, &term["podAffinityTerm"]))
    };
    terms.iter().map(read).collect()
}

/// Domains (values of a label) with pods of interest, and how many.
type Domains = HashMap<String, i64>;

/// The affinities of a pod, counted over all nodes.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    near: Vec<(Term, Domains)>,
    /// No pod anywhere is what the pod wants to be near, but itself is: the first of a group.
    is_first: bool,
    apart: Vec<(Term, Domains)>,
    /// Label and value of domains where a pod is that keeps this one off.
    kept_off: BTreeSet<(String, String)>,
    likes: Vec<(i64, String, Domains)>,
}

impl Affinity {
    pub(crate) fn of(pod: &Value, facts: &Facts, nodes: &[Node], namespaces: &Namespaces) -> Affinity {
        let count = |term: Term| {
            let mut domains = Domains::new();
            for node in nodes {
                let Some(domain) = node.label(&term.key) else { continue };
                let found = node.pods.iter().filter(|other| term.selects(other, namespaces)).count();
                if found > 0 {
                    *domains.entry(domain.to_owned()).or_default() +=
                        i64::try_from(found).unwrap_or(i64::MAX);
                }
            }
            (term, domains)
        };
        let near: Vec<(Term, Domains)> = required(pod, "podAffinity").into_iter().map(count).collect();
        let is_first =
            near.iter().all(|(term, domains)| domains.is_empty() && term.selects(facts, namespaces));
        let likes = preferred(pod, "podAffinity", 1).into_iter().chain(preferred(pod, "podAntiAffinity", -1));
        let likes = likes.map(|(weight, term)| {
            let (term, domains) = count(term);
            (weight, term.key, domains)
        });
        let mut kept_off = BTreeSet::new();
        for node in nodes {
            for term in node.pods.iter().flat_map(|other| &other.keeps_off) {
                if let Some(domain) = node.label(&term.key).filter(|_| term.selects(facts, namespaces)) {
                    kept_off.insert((term.key.clone(), domain.to_owned()));
                }
            }
        }
        let apart = required(pod, "podAntiAffinity").into_iter().map(count).collect();
        Affinity { near, is_first, apart, kept_off, likes: likes.collect() }
    }

    pub(crate) fn reason(&self, node: &Node) -> Option<String> {
        let found =
            |key: &str, domains: &Domains| node.label(key).is_some_and(|domain| domains.contains_key(domain));
        let is_near = self.near.iter().all(|(term, domains)| found(&term.key, domains));
        let has_keys = self.near.iter().all(|(term, _)| node.label(&term.key).is_some());
        if !(is_near || self.is_first && has_keys) {
            return Some("node(s) didn't match pod affinity rules".to_owned());
        }
        if self.apart.iter().any(|(term, domains)| found(&term.key, domains)) {
            return Some("node(s) didn't match pod anti-affinity rules".to_owned());
        }
        let is_kept_off = self.kept_off.iter().any(|(key, domain)| node.label(key) == Some(domain.as_str()));
        is_kept_off.then(|| "node(s) didn't satisfy existing pods anti-affinity rules".to_owned())
    }

    /// How much the pod likes a node for the pods around it.
    pub(crate) fn likes(&self, node: &Node) -> i64 {
        let here =
            |key: &str, domains: &Domains| node.label(key).and_then(|domain| domains.get(domain)).copied();
        self.likes.iter().map(|(weight, key, domains)| weight * here(key, domains).unwrap_or(0)).sum()
    }
}
