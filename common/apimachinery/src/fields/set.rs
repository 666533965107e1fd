//! Sets of fields.

use serde_json::{Map, Value};

use super::{Element, Schema};

/// A set of paths. A path may be in it without those above or below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// By element. None is empty: each is in the set or has something below it.
    nodes: Vec<(Element, Node)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// The path that ends here is in the set.
    pub is_member: bool,
    pub below: Set,
}

impl Node {
    pub(super) fn member(below: Set) -> Node {
        Node { is_member: true, below }
    }

    fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Reads `fieldsV1`. Elements of unknown sorts are left out, as in Kubernetes.
    pub fn parse(fields: &Value) -> Set {
        let mut set = Set::default();
        for (key, below) in fields.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
            let Some(element) = Element::parse(key) else { continue };
            set.put(element, Node { is_member: is_written_member(below), below: Set::parse(below) });
        }
        set
    }

    /// As `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let entry = |(element, node): &(Element, Node)| {
            let mut below = node.below.to_json();
            if node.is_member && !node.below.is_empty() {
                below["."] = Value::Object(Map::new());
            }
            (element.written(), below)
        };
        Value::Object(self.nodes.iter().map(entry).collect())
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|(known, _)| known.cmp(element))
    }

    /// Puts a node in its place; one that is empty is left out.
    pub(super) fn put(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.find(&element) {
            Ok(at) => {
                let known = &mut self.nodes[at].1;
                known.is_member |= node.is_member;
                known.below = known.below.union(&node.below);
            }
            Err(at) => self.nodes.insert(at, (element, node)),
        }
    }

    /// Adds a path, which must not be empty.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = match self.find(first) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, (first.clone(), Node::default()));
                at
            }
        };
        let node = &mut self.nodes[at].1;
        if rest.is_empty() { node.is_member = true } else { node.below.insert(rest) }
    }

    pub(super) fn node(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.nodes[at].1)
    }

    /// True if this path is in the set.
    pub fn has(&self, path: &[Element]) -> bool {
        match path.split_first() {
            None => false,
            Some((first, [])) => self.node(first).is_some_and(|node| node.is_member),
            Some((first, rest)) => self.node(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Set) -> Set {
        let (mut mine, mut theirs) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        loop {
            match (mine.peek(), theirs.peek()) {
                (Some((a, x)), Some((b, y))) if a == b => {
                    let is_member = x.is_member || y.is_member;
                    nodes.push((a.clone(), Node { is_member, below: x.below.union(&y.below) }));
                    mine.next();
                    theirs.next();
                }
                (Some((a, _)), Some((b, _))) if a < b => nodes.extend(mine.next().cloned()),
                (Some(_), None) => nodes.extend(mine.next().cloned()),
                (None, None) => return Set { nodes },
                _ => nodes.extend(theirs.next().cloned()),
            }
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let mut out = Set::default();
        for (element, node) in &self.nodes {
            if let Some(theirs) = other.node(element) {
                let is_member = node.is_member && theirs.is_member;
                let both = Node { is_member, below: node.below.intersection(&theirs.below) };
                if !both.is_empty() {
                    out.nodes.push((element.clone(), both));
                }
            }
        }
        out
    }

    /// What is in this one and not, by exactly the same path, in the other.
    #[must_use]
    pub fn difference(&self, other: &Set) -> Set {
        let mut out = Set::default();
        for (element, node) in &self.nodes {
            let left = match other.node(element) {
                None => node.clone(),
                Some(theirs) => Node {
                    is_member: node.is_member && !theirs.is_member,
                    below: node.below.difference(&theirs.below),
                },
            };
            if !left.is_empty() {
                out.nodes.push((element.clone(), left));
            }
        }
        out
    }

    /// True if every path of this set is in the one that is written as `fields`, which [`Set::to_json`] wrote.
    pub(super) fn is_all_written(&self, fields: &Value) -> bool {
        self.nodes.iter().all(|(element, node)| {
            fields.get(element.written()).is_some_and(|below| {
                (!node.is_member || is_written_member(below)) && node.below.is_all_written(below)
            })
        })
    }

    /// True if any path of this set is in the one that is written as `fields`.
    pub(super) fn is_any_written(&self, fields: &Value) -> bool {
        self.nodes.iter().any(|(element, node)| {
            fields.get(element.written()).is_some_and(|below| {
                (node.is_member && is_written_member(below)) || node.below.is_any_written(below)
            })
        })
    }

    /// Without the top-level fields of these names and what is below them.
    #[must_use]
    pub fn without(mut self, fields: &[&str]) -> Set {
        let is_one =
            |element: &Element| matches!(element, Element::Field(name) if fields.contains(&name.as_str()));
        self.nodes.retain(|(element, _)| !is_one(element));
        self
    }

    /// Without what nobody owns.
    #[must_use]
    pub(super) fn owned(mut self, parent: Option<&str>) -> Set {
        self.nodes.retain_mut(|(element, node)| {
            let Element::Field(name) = element else { return true };
            if super::is_nobodys(parent, name) {
                return false;
            }
            if parent.is_none() && name == "metadata" {
                node.is_member = false;
                node.below = std::mem::take(&mut node.below).owned(Some("metadata"));
            }
            !node.is_empty()
        });
        self
    }

    /// With each declared field that has something in the set below it.
    #[must_use]
    pub(super) fn with_named(&self, schema: Schema<'_>) -> Set {
        let nodes = self.nodes.iter().map(|(element, node)| {
            let named = match element {
                Element::Field(name) => schema.is_declared(name),
                _ => false,
            };
            let below = node.below.with_named(schema.below(element));
            (element.clone(), Node { is_member: node.is_member || (named && !node.below.is_empty()), below })
        });
        Set { nodes: nodes.collect() }
    }

    /// Every path in the set; those that end at one level come before those that lead deeper, as in Kubernetes' messages.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut found = Vec::new();
        self.walk(&mut Vec::new(), &mut found);
        found
    }

    fn walk(&self, path: &mut Vec<Element>, found: &mut Vec<Vec<Element>>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.is_member) {
            path.push(element.clone());
            found.push(path.clone());
            path.pop();
        }
        for (element, node) in &self.nodes {
            path.push(element.clone());
            node.below.walk(path, found);
            path.pop();
        }
    }

    /// The fields of a value, as an applier owns them (`typed/tofieldset.go` upstream): leaves, atomic lists and maps as a whole,
    /// items of lists, keys of maps.
    pub fn of_value(value: &Value, schema: Schema<'_>) -> Set {
        node_of(value, schema).below
    }
}

fn is_written_member(below: &Value) -> bool {
    below.as_object().is_none_or(Map::is_empty) || below.get(".").is_some()
}

fn node_of(value: &Value, schema: Schema<'_>) -> Node {
    use super::schema::Atom;
    let mut below = Set::default();
    match (schema.atom(value), value) {
        (Atom::Map { is_atomic: false }, Value::Object(map)) => {
            for (key, value) in map {
                let mut node = node_of(value, schema.field(key).unwrap_or(Schema::ANY));
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                node.is_member |= is_empty || !schema.is_declared(key);
                below.put(Element::Field(key.clone()), node);
            }
            Node { is_member: false, below }
        }
        (Atom::Items, Value::Array(list)) => {
            for item in list {
                if let Ok(element) = schema.element_of(item) {
                    below.put(element, Node::member(node_of(item, schema.item()).below));
                }
            }
            Node { is_member: false, below }
        }
        (Atom::Map { is_atomic: false } | Atom::Items, _) => Node::default(),
        _ => Node::member(below),
    }
}
