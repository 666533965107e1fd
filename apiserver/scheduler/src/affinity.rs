//! Pods that want to be near others, or away from them (`plugins/interpodaffinity`).

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::facts::Facts;
use crate::nodes::Node;
use crate::terms::{Namespaces, Term, preferred, required};

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
                let found = node
                    .pods
                    .iter()
                    .filter(|other| term.selects(&other.namespace, &other.labels, namespaces))
                    .count();
                if found > 0 {
                    *domains.entry(domain.to_owned()).or_default() +=
                        i64::try_from(found).unwrap_or(i64::MAX);
                }
            }
            (term, domains)
        };
        let near: Vec<(Term, Domains)> = required(pod, "podAffinity").into_iter().map(count).collect();
        let is_first = near.iter().all(|(term, domains)| {
            domains.is_empty() && term.selects(&facts.namespace, &facts.labels, namespaces)
        });
        let likes = preferred(pod, "podAffinity", 1).into_iter().chain(preferred(pod, "podAntiAffinity", -1));
        let likes = likes.map(|(weight, term)| {
            let (term, domains) = count(term);
            (weight, term.key, domains)
        });
        let mut kept_off = BTreeSet::new();
        for node in nodes {
            for term in node.pods.iter().flat_map(|other| &other.keeps_off) {
                if let Some(domain) = node
                    .label(&term.key)
                    .filter(|_| term.selects(&facts.namespace, &facts.labels, namespaces))
                {
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
