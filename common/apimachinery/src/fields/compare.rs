//! What differs between two states of an object (`typed/compare.go` upstream).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schema::Atom;
use super::{Element, Schema, Set};

/// The fields in which two values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// Compares two objects. What nobody owns is left out, and so are top-level fields named in `reset`.
pub fn compare(old: &Value, new: &Value, schema: Schema<'_>, reset: &[&str]) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default(), reset };
    walk.maps(old.as_object(), new.as_object(), schema);
    walk.found
}

struct Walk<'r> {
    path: Vec<Element>,
    found: Comparison,
    reset: &'r [&'r str],
}

/// Lists of items by element.
type Items<'v> = BTreeMap<Element, (Vec<&'v Value>, Vec<&'v Value>)>;

impl Walk<'_> {
    /// One side may be missing, not both.
    fn values(&mut self, old: Option<&Value>, new: Option<&Value>, schema: Schema<'_>) {
        let Some(shown) = new.or(old) else { return };
        let (before, after) = (old.map(|old| schema.atom(old)), new.map(|new| schema.atom(new)));
        let atom = schema.atom(shown);
        let differ = before.is_some() && after.is_some() && before != after;
        let is_leaf = match atom {
            _ if differ => true,
            Atom::Scalar | Atom::Whole | Atom::Map { is_atomic: true } => true,
            Atom::Map { .. } => {
                let is_empty =
                    |value: Option<&Value>| value.and_then(Value::as_object).is_none_or(Map::is_empty);
                is_empty(old) && is_empty(new)
            }
            Atom::Items => {
                let is_empty =
                    |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
                is_empty(old) && is_empty(new)
            }
        };
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ if is_leaf => self.found.modified.insert(&self.path),
            _ => {}
        }
        if differ {
            // Something of another sort has taken its place: what was in it is gone, what is in it is new.
            self.inside(old, None, before, schema);
            return self.inside(None, new, after, schema);
        }
        if !is_leaf {
            self.inside(old, new, Some(atom), schema);
        }
    }

    /// The fields of maps and the items of lists.
    fn inside(&mut self, old: Option<&Value>, new: Option<&Value>, atom: Option<Atom>, schema: Schema<'_>) {
        match atom {
            Some(Atom::Map { is_atomic: false }) => {
                self.maps(old.and_then(Value::as_object), new.and_then(Value::as_object), schema);
            }
            Some(Atom::Items) => {
                self.lists(old.and_then(Value::as_array), new.and_then(Value::as_array), schema);
            }
            _ => {}
        }
    }

    fn maps(
        &mut self,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        schema: Schema<'_>,
    ) {
        let parent = match self.path.as_slice() {
            [] => Some(None),
            [Element::Field(name)] => Some(Some(name.clone())),
            _ => None,
        };
        let is_skipped = |key: &str, reset: &[&str]| match &parent {
            None => false,
            Some(parent) => {
                super::is_nobodys(parent.as_deref(), key) || (parent.is_none() && reset.contains(&key))
            }
        };
        let mine =
            old.into_iter().flatten().map(|(key, value)| (key, Some(value), new.and_then(|m| m.get(key))));
        let is_new = |key: &str| old.is_none_or(|map| !map.contains_key(key));
        let theirs = new.into_iter().flatten().filter(|(key, _)| is_new(key));
        let theirs = theirs.map(|(key, value)| (key, None, Some(value)));
        for (key, before, after) in mine.chain(theirs) {
            if before == after || is_skipped(key, self.reset) {
                continue;
            }
            // What is always there is empty rather than missing.
            let empty = match before.or(after) {
                Some(Value::Object(_)) => json!({}),
                _ => Value::Null,
            };
            let is_present = old.is_some()
                && new.is_some()
                && before.is_none() != after.is_none()
                && schema.always_present().any(|name| name == key.as_str());
            let (before, after) = match is_present {
                true => (before.or(Some(&empty)), after.or(Some(&empty))),
                false => (before, after),
            };
            if before == after {
                continue;
            }
            self.path.push(Element::Field(key.clone()));
            self.values(before, after, schema.field(key).unwrap_or(Schema::ANY));
            self.path.pop();
        }
    }

    fn lists(&mut self, old: Option<&Vec<Value>>, new: Option<&Vec<Value>>, schema: Schema<'_>) {
        let mut items = Items::new();
        for item in old.into_iter().flatten() {
            if let Ok(element) = schema.element_of(item) {
                items.entry(element).or_default().0.push(item);
            }
        }
        for item in new.into_iter().flatten() {
            if let Ok(element) = schema.element_of(item) {
                items.entry(element).or_default().1.push(item);
            }
        }
        for (element, (before, after)) in items.into_iter().filter(|(_, (before, after))| before != after) {
            self.path.push(element);
            // Items of one element are one thing, which is changed as a whole.
            match (before.as_slice(), after.as_slice()) {
                ([_, _, ..], [_, _, ..]) => self.found.modified.insert(&self.path),
                ([_, _, ..], _) => {
                    if let Some(item) = after.first() {
                        self.values(None, Some(item), schema.item());
                    }
                    self.found.removed.insert(&self.path);
                }
                (_, [_, _, ..]) => {
                    if let Some(item) = before.first() {
                        self.values(Some(item), None, schema.item());
                    }
                    self.found.added.insert(&self.path);
                }
                _ => self.values(before.first().copied(), after.first().copied(), schema.item()),
            }
            self.path.pop();
        }
    }
}
