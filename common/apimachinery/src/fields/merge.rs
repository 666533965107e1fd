//! Putting what an applier wants into an object (`typed/merge.go` upstream).

use serde_json::{Map, Value};

use super::schema::Atom;
use super::{Element, Schema};

/// `live` with what `wanted` says. Maps and lists of items merge; everything else is replaced.
pub(super) fn merge(live: &Value, wanted: &Value, schema: Schema<'_>) -> Value {
    match (schema.atom(wanted), live, wanted) {
        (Atom::Map { is_atomic: false }, Value::Object(live), Value::Object(wanted)) => {
            Value::Object(maps(live, wanted, schema))
        }
        (Atom::Items, Value::Array(live), Value::Array(wanted)) => Value::Array(lists(live, wanted, schema)),
        // Nothing wanted of a map or list changes nothing in it.
        (Atom::Map { is_atomic: false }, Value::Object(_), Value::Null) => live.clone(),
        (Atom::Items, Value::Array(_), Value::Null) => live.clone(),
        _ => wanted.clone(),
    }
}

fn maps(live: &Map<String, Value>, wanted: &Map<String, Value>, schema: Schema<'_>) -> Map<String, Value> {
    let mut out = live.clone();
    for (key, value) in wanted {
        let merged = match live.get(key) {
            Some(old) => merge(old, value, schema.field(key).unwrap_or(Schema::ANY)),
            None => value.clone(),
        };
        out.insert(key.clone(), merged);
    }
    out
}

/// Items that are wanted come in the wanted order; others stay where they are between them.
fn lists(live: &[Value], wanted: &[Value], schema: Schema<'_>) -> Vec<Value> {
    let elements = |list: &[Value]| -> Vec<Option<Element>> {
        list.iter().map(|item| schema.element_of(item).ok()).collect()
    };
    let (mine, theirs) = (elements(live), elements(wanted));
    let is_wanted = |element: &Option<Element>| element.is_some() && theirs.contains(element);
    let mut shared = theirs.iter().filter(|element| element.is_some() && mine.contains(element)).peekable();
    let mut taken: Vec<&Option<Element>> = Vec::new();
    let mut out = Vec::with_capacity(live.len().max(wanted.len()));
    let (mut at, mut next) = (0, 0);
    while at < live.len() || next < wanted.len() {
        if at < live.len() {
            let element = &mine[at];
            if !is_wanted(element) {
                out.push(live[at].clone());
                at += 1;
                continue;
            }
            let is_due = shared.peek().is_none_or(|due| *due == element);
            if taken.contains(&element) || (next < wanted.len() && theirs[next] != *element && !is_due) {
                at += 1;
                continue;
            }
        }
        if next < wanted.len() {
            let element = &theirs[next];
            let olds: Vec<&Value> =
                mine.iter().zip(live).filter(|(one, _)| *one == element).map(|(_, old)| old).collect();
            out.push(match olds.as_slice() {
                [old] if element.is_some() => merge(old, &wanted[next], schema.item()),
                _ => wanted[next].clone(),
            });
            if at < live.len() && mine[at] == *element {
                at += 1;
            }
            taken.push(element);
            shared.next_if(|due| *due == element);
            next += 1;
        }
    }
    out
}
