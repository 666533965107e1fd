//! Keeping the record when somebody creates, updates or patches.

use serde_json::{Value, json};

use super::managers::Entry;
use super::{Managers, Operation, Schema, Set, Writer, compare, is_reset};

/// Entries of updates an object keeps; older ones are joined.
const UPDATES: usize = 10;

/// Writes into `new` who owns what after `writer` made it of `old`, which is `None` for a new object. The record that `new` brings
/// counts, so that it can be edited; without one, and through a subresource, `old`'s does. An object without any record gets
/// none by a mere update, as in Kubernetes. A change of nothing changes nothing in the record, times included.
pub fn update(old: Option<&Value>, new: &mut Value, schema: Schema<'_>, writer: &Writer<'_>) {
    let before = old.and_then(Managers::read).unwrap_or_default();
    let is_edited = writer.subresource.is_empty()
        && old.is_none_or(|old| record(old) != record(new))
        && record(new).is_some_and(|list| !list.is_empty());
    let managers = match is_edited {
        true if is_reset(new) => Managers::default(),
        true => Managers::read(new).filter(|managers| !managers.is_empty()).unwrap_or(before),
        false => before,
    };
    let empty = json!({});
    let found = compare(old.unwrap_or(&empty), new, schema, writer.reset);
    if found.is_empty() && !is_edited {
        // As it was, to the letter.
        return keep(old, new);
    }
    if old.is_some() && managers.is_empty() {
        return managers.write(new);
    }
    let taken = found.modified.union(&found.added);
    let mut managers = managers;
    for entry in &mut managers.entries {
        entry.fields = entry.fields.difference(&taken).difference(&found.removed);
    }
    if !taken.is_empty() {
        let entry = Entry::new(writer, Operation::Update, taken);
        let previous = managers.take(&entry).map(|previous| previous.fields).unwrap_or_default();
        let fields = Set::union(&entry.fields, &previous);
        managers.put(Entry { fields, ..entry });
    }
    managers.entries.retain(|entry| !entry.fields.is_empty());
    managers.cap(UPDATES);
    managers.write(new);
}

fn record(object: &Value) -> Option<&Vec<Value>> {
    object.pointer("/metadata/managedFields").and_then(Value::as_array)
}

fn keep(old: Option<&Value>, new: &mut Value) {
    let metadata = crate::object::metadata(new);
    match old.and_then(|old| old.pointer("/metadata/managedFields")) {
        Some(record) => metadata.insert("managedFields".to_owned(), record.clone()),
        None => metadata.remove("managedFields"),
    };
}
