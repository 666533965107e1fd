//! Objects with what only their text has ([`marks`](crate::marks)): reasons as comments, conditions of a chart.

use serde_json::{Map, Value, json};

use crate::Switch;
use crate::marks::{IF, MORE, THEN, WHY};

/// One object, and where it is in a chart.
#[derive(Clone, Debug)]
pub struct Document {
    /// Name of its template, without the ending.
    pub file: &'static str,
    /// Whether it is there.
    pub when: Switch,
    /// The object, parts of it wrapped.
    pub(crate) tree: Value,
}

impl Document {
    pub(crate) fn new(file: &'static str, tree: Value) -> Document {
        Document { file, when: Switch::On, tree }
    }

    /// There only if `when`.
    pub(crate) fn when(self, when: &Switch) -> Document {
        Document { when: when.clone(), ..self }
    }

    /// The object as the API takes it, without comments. What a condition of a chart is about counts as there.
    pub fn object(&self) -> Value {
        unwrapped(&self.tree)
    }

    /// Its text, with comments, conditions and expressions.
    pub fn text(&self) -> String {
        crate::yaml::render(&self.tree)
    }
}

/// `value` if it is there; wrapped, if a chart decides.
pub(crate) fn part(when: &Switch, value: Value) -> Option<Value> {
    match when {
        Switch::Off => None,
        Switch::On => Some(value),
        Switch::When(condition) => Some(json!({THEN: value, IF: condition})),
    }
}

/// The same with a comment.
pub(crate) fn explained(why: &str, when: &Switch, value: Value) -> Option<Value> {
    let mut wrapped = json!({THEN: value, WHY: why});
    if let Switch::When(condition) = when {
        wrapped[IF] = json!(condition);
    }
    when.is_there().then_some(wrapped)
}

/// Adds `value` as `key`, if it is there.
pub(crate) fn put(object: &mut Value, key: &str, when: &Switch, value: Value) {
    if let Some(value) = part(when, value) {
        object[key] = value;
    }
}

fn unwrapped(value: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.get(THEN) {
            Some(inner) => unwrapped(inner),
            None => Value::Object(
                fields
                    .iter()
                    .filter(|(key, _)| *key != MORE)
                    .map(|(key, value)| (key.clone(), unwrapped(value)))
                    .collect::<Map<_, _>>(),
            ),
        },
        Value::Array(items) => items.iter().map(unwrapped).collect(),
        other => other.clone(),
    }
}
