//! Keeping the record when somebody creates, updates or patches.

use serde_json::{Value, json};

use super::managers::Entry;
use super::{Comparison, Managers, Operation, Schema, Set, View, Writer, compare, is_reset};
use crate::object;

/// Entries of updates an object keeps; older ones are joined.
const UPDATES: usize = 10;

/// Writes into `new` who owns what after `writer` made it of `old`, which is `None` for a new object. The record that `new` brings
/// counts, so that it can be edited; without one, and through a subresource, `old`'s does. An object without any record gets
/// none by a mere update, as in Kubernetes. A change of nothing changes nothing in the record, times included.
pub fn update(old: Option<&Value>, new: &mut Value, schema: Schema<'_>, writer: &Writer<'_>) {
    update_viewed(old, new, schema, writer, &[]);
}

/// [`update`] of an object some managers of which wrote in other versions: what they own is looked at in the view of their version
/// (`merge/update.go` upstream). Without one it is looked at in the writer's.
pub fn update_viewed(
    old: Option<&Value>,
    new: &mut Value,
    schema: Schema<'_>,
    writer: &Writer<'_>,
    views: &[View<'_>],
) {
    let is_edited = writer.subresource.is_empty()
        && old.is_none_or(|old| record(old) != record(new))
        && record(new).is_some();
    let empty = json!({});
    let found = compare(old.unwrap_or(&empty), new, schema, writer.reset);
    if found.is_empty() && !is_edited {
        // As it was, to the letter.
        return keep(old, new);
    }
    if let Some(old) = old
        && !is_edited
        && views.is_empty()
        && repeated(old, new, &found, writer)
    {
        return;
    }
    let before = || old.and_then(Managers::read).unwrap_or_default();
    let managers = match is_edited {
        true if is_reset(new) => Managers::default(),
        true => Managers::read(new).filter(|managers| !managers.is_empty()).unwrap_or_else(before),
        false => before(),
    };
    if old.is_some() && managers.is_empty() {
        return managers.write(new);
    }
    let taken = found.modified.union(&found.added);
    let mut managers = managers;
    let own = |view: &View<'_>| {
        (view.api_version.clone(), compare(&view.old, &view.new, view.schema, writer.reset))
    };
    let viewed: Vec<(String, Comparison)> = views.iter().map(own).collect();
    for entry in &mut managers.entries {
        let seen = viewed.iter().find(|(version, _)| *version == entry.api_version);
        let seen = seen.map_or(&found, |(_, seen)| seen);
        let lost = seen.modified.union(&seen.added).union(&seen.removed);
        entry.fields = entry.fields.difference(&lost);
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

/// The common case made cheap: a manager changes again what it owns and nobody else does. Then its time is all that changes in the
/// record. False if it is another case.
fn repeated(old: &Value, new: &mut Value, found: &Comparison, writer: &Writer<'_>) -> bool {
    let Some(entries) = record(old) else { return false };
    let says = |entry: &Value, key: &str, wanted: &str| {
        entry.get(key).and_then(Value::as_str).unwrap_or_default() == wanted
    };
    let is_mine = |entry: &Value| {
        says(entry, "operation", "Update")
            && says(entry, "manager", writer.manager)
            && says(entry, "apiVersion", writer.api_version)
            && says(entry, "subresource", writer.subresource)
    };
    let Some(mine) = entries.iter().position(is_mine) else { return false };
    let taken = [&found.modified, &found.added];
    let touched = [&found.modified, &found.added, &found.removed];
    let is_repeated = entries.iter().enumerate().all(|(at, entry)| {
        let owned = entry.get("fieldsV1").unwrap_or(&Value::Null);
        match at == mine {
            true => taken.iter().all(|set| set.is_all_written(owned)) && !found.removed.is_any_written(owned),
            false => !touched.iter().any(|set| set.is_any_written(owned)),
        }
    });
    if !is_repeated {
        return false;
    }
    if record(new) != Some(entries) {
        keep(Some(old), new);
    }
    if let Some(Value::Array(entries)) = object::metadata(new).get_mut("managedFields") {
        entries[mine]["time"] = json!(writer.now);
        Managers::sort_written(entries);
    }
    true
}

fn record(object: &Value) -> Option<&Vec<Value>> {
    object::at(object, "/metadata/managedFields").and_then(Value::as_array)
}

fn keep(old: Option<&Value>, new: &mut Value) {
    let metadata = object::metadata(new);
    match old.and_then(|old| object::at(old, "/metadata/managedFields")) {
        Some(record) => metadata.insert("managedFields".to_owned(), record.clone()),
        None => metadata.remove("managedFields"),
    };
}
