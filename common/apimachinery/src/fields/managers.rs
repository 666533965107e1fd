//! The record itself: `metadata.managedFields`.

use serde_json::{Map, Value, json};

use super::{Set, Writer};
use crate::object;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// What one manager owns by one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    pub time: Option<String>,
    pub fields: Set,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers {
    pub(super) entries: Vec<Entry>,
}

impl Entry {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, fields: Set) -> Entry {
        Entry {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: Some(writer.now.to_owned()),
            fields,
        }
    }

    /// True if both are of the same manager: an applier is one whatever version it applies.
    pub(super) fn is_same(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn read(entry: &Value) -> Option<Entry> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let (api_version, time) = (text("apiVersion"), text("time"));
        if api_version.is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let fields = Set::parse(entry.get("fieldsV1").unwrap_or(&Value::Null));
        let time = Some(time).filter(|time| !time.is_empty());
        Some(Entry {
            manager: text("manager"),
            operation,
            api_version,
            subresource: text("subresource"),
            time,
            fields,
        })
    }

    fn write(&self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut out = json!({
            "manager": self.manager, "operation": operation, "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
        });
        if let Some(time) = &self.time {
            out["time"] = json!(time);
        }
        if !self.subresource.is_empty() {
            out["subresource"] = json!(self.subresource);
        }
        out
    }

    /// As messages of conflicts name it.
    pub(super) fn named(&self) -> String {
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            subresource => format!(" with subresource {subresource:?}"),
        };
        let using = match self.operation {
            Operation::Apply => String::new(),
            Operation::Update => format!(" using {}", self.api_version),
        };
        format!("{:?}{subresource}{using}", self.manager)
    }
}

/// True for what a client writes to drop the record: no entry, or one with nothing in it.
pub fn is_reset(object: &Value) -> bool {
    match object::at(object, "/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.is_empty(),
        _ => false,
    }
}

/// True if two states of an object differ in nothing but the times of the record: a change of nothing, which is not stored.
pub fn differ_in_times_alone(old: &Value, new: &Value) -> bool {
    let (Some(old_map), Some(new_map)) = (old.as_object(), new.as_object()) else { return false };
    let (before, after) =
        (object::list(old, "/metadata/managedFields"), object::list(new, "/metadata/managedFields"));
    let equal = |old: &Map<String, Value>, new: &Map<String, Value>, but: &str| {
        old.len() == new.len() && old.iter().all(|(key, value)| key == but || new.get(key) == Some(value))
    };
    let entries = |(old, new): (&Value, &Value)| match (old.as_object(), new.as_object()) {
        (Some(old), Some(new)) => equal(old, new, "time"),
        _ => false,
    };
    before.len() == after.len()
        && equal(old_map, new_map, "metadata")
        && before.iter().zip(after).all(entries)
        && match (old_map.get("metadata"), new_map.get("metadata")) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => equal(old, new, "managedFields"),
            _ => false,
        }
}

impl Managers {
    /// Reads the record of an object; `None` if an entry of it makes no sense.
    pub fn read(object: &Value) -> Option<Managers> {
        let mut managers = Managers::default();
        for entry in object::list(object, "/metadata/managedFields") {
            managers.put(Entry::read(entry)?);
        }
        Some(managers)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes the record to an object.
    pub fn write(mut self, object: &mut Value) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.entries.sort_by(|a, b| {
            (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
                b.operation,
                &b.time,
                &b.manager,
                &b.api_version,
                &b.subresource,
            ))
        });
        let entries: Vec<Value> = self.entries.iter().map(Entry::write).collect();
        let metadata: &mut Map<String, Value> = object::metadata(object);
        match entries.is_empty() {
            true => metadata.remove("managedFields"),
            false => metadata.insert("managedFields".to_owned(), Value::Array(entries)),
        };
    }

    /// Puts written entries into the order of [`Managers::write`].
    pub(super) fn sort_written(entries: &mut [Value]) {
        fn key(entry: &Value) -> [&str; 5] {
            ["operation", "time", "manager", "apiVersion", "subresource"]
                .map(|name| entry.get(name).and_then(Value::as_str).unwrap_or_default())
        }
        entries.sort_by(|a, b| key(a).cmp(&key(b)));
    }

    /// Puts an entry in the place of the one of the same manager.
    pub(super) fn put(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|known| known.is_same(&entry)) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }

    pub(super) fn take(&mut self, like: &Entry) -> Option<Entry> {
        let at = self.entries.iter().position(|known| known.is_same(like))?;
        Some(self.entries.remove(at))
    }

    /// Joins the oldest entries of updates, so that there are at most `most` of them, as Kubernetes does
    /// (`internal/capmanagers.go`).
    pub(super) fn cap(&mut self, most: usize) {
        loop {
            let mut updates: Vec<usize> = (0..self.entries.len())
                .filter(|at| self.entries[*at].operation == Operation::Update)
                .collect();
            if updates.len() <= most {
                return;
            }
            updates.sort_by_key(|at| (&self.entries[*at].time, &self.entries[*at].manager));
            let same = |a: usize, b: usize| self.entries[a].api_version == self.entries[b].api_version;
            // The two oldest of one version.
            let pair = updates.iter().enumerate().find_map(|(place, second)| {
                updates[..place].iter().find(|first| same(**first, *second)).map(|first| (*first, *second))
            });
            let Some((first, second)) = pair else { return };
            let newer = self.entries[second].clone();
            let older = self.entries[first].clone();
            self.entries.retain(|entry| *entry != newer && *entry != older);
            self.put(Entry {
                manager: "ancient-changes".to_owned(),
                subresource: String::new(),
                fields: older.fields.union(&newer.fields),
                ..newer
            });
        }
    }
}
