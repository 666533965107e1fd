//! The nodes as a round sees them: what they offer, what is taken, which pods are there.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::facts::{Amounts, Facts, amounts};

#[derive(Clone)]
pub(crate) struct Node {
    pub object: Value,
    pub offers: Amounts,
    pub taken: Amounts,
    /// CPU and memory that count when nodes are compared.
    pub weight: (i64, i64),
    pub pods: Vec<Arc<Facts>>,
}

impl Node {
    pub(crate) fn new(object: Value) -> Node {
        let offers = match &object["status"]["allocatable"] {
            Value::Null => amounts(&object["status"]["capacity"]),
            allocatable => amounts(allocatable),
        };
        Node { object, offers, taken: Amounts::new(), weight: (0, 0), pods: Vec::new() }
    }

    pub(crate) fn name(&self) -> &str {
        apimachinery::object::name(&self.object)
    }

    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.object["metadata"]["labels"][name].as_str()
    }

    /// Takes a pod in, also one that was given to it in this round.
    pub(crate) fn take(&mut self, pod: Arc<Facts>) {
        for (name, value) in &pod.requests {
            *self.taken.entry(name.clone()).or_default() += value;
        }
        self.weight = (self.weight.0 + pod.weight.0, self.weight.1 + pod.weight.1);
        self.pods.push(pod);
    }
}

/// All nodes with the pods that are on them.
pub(crate) fn with_pods(nodes: Vec<Value>, pods: Vec<Arc<Facts>>) -> Vec<Node> {
    let mut nodes: Vec<Node> = nodes.into_iter().map(Node::new).collect();
    let places: HashMap<String, usize> =
        nodes.iter().enumerate().map(|(at, node)| (node.name().to_owned(), at)).collect();
    for pod in pods {
        if let Some(at) = places.get(&pod.node) {
            nodes[*at].take(pod);
        }
    }
    nodes
}
