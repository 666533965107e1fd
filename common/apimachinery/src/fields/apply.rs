//! Server-side apply.

use serde_json::{Value, json};

use super::managers::Entry;
use super::merge::merge;
use super::remove::remove;
use super::{Element, Managers, Operation, Schema, Set, Writer, compare, validate};
use crate::object::{self, text};
use crate::{Cause, Status};

/// Why an apply was refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// What is applied does not fit the schema; each line names a field.
    #[error("{}", lines(.0))]
    Misfit(Vec<String>),
    /// Others own fields that it would change: for each the manager and the path.
    #[error("{}", told(.0))]
    Conflicts(Vec<(String, String)>),
    #[error("metadata.managedFields must be nil")]
    HasRecord,
}

fn lines(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => {
            let lines: Vec<String> = many.iter().map(|line| format!("  {line}")).collect();
            format!("errors:\n{}", lines.join("\n"))
        }
    }
}

fn told(conflicts: &[(String, String)]) -> String {
    if let [(manager, path)] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut managers: Vec<&String> = conflicts.iter().map(|(manager, _)| manager).collect();
    managers.sort();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let paths = conflicts.iter().filter(|(other, _)| other == manager);
        lines.extend(paths.map(|(_, path)| format!("- {path}")));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl ApplyError {
    /// What a client is told. `about` names the object as Kubernetes does: `default/web; apps/v1, Kind=Deployment`.
    pub fn into_status(self, about: &str) -> Status {
        let message = self.to_string();
        match self {
            // Kubernetes answers so, with no reason given.
            ApplyError::Misfit(_) => {
                Status::new(500, "", format!("failed to create typed patch object ({about}): {message}"))
            }
            ApplyError::HasRecord => Status::bad_request(message),
            ApplyError::Conflicts(conflicts) => {
                let causes = conflicts.into_iter().map(|(manager, field)| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {manager}"),
                    field,
                });
                Status { causes: causes.collect(), ..Status::new(409, "Conflict", message) }
            }
        }
    }
}

/// The annotation in which `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager that owns what an object had before anybody applied to it.
const BEFORE: &str = "before-first-apply";

/// What `live` becomes when `writer` applies `config`, with the record of who owns what. `live` is an empty map for an object that
/// is not there. `force` takes fields from others. Both come in stored form, but for `kind` and `apiVersion` of `config`, which are
/// for the annotation of `kubectl apply`.
///
/// # Errors
/// [`ApplyError`]: `config` does not fit the schema, has a record of its own, or others own what it would change.
pub fn apply(
    live: &Value,
    config: &Value,
    schema: Schema<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if config.pointer("/metadata/managedFields").is_some_and(|record| !record.is_null()) {
        return Err(ApplyError::HasRecord);
    }
    let mut wanted = config.clone();
    let map = object::as_map(&mut wanted);
    for field in ["apiVersion", "kind"].iter().chain(writer.reset) {
        map.remove(*field);
    }
    let problems = validate::problems(&wanted, schema);
    if !problems.is_empty() {
        return Err(ApplyError::Misfit(problems));
    }
    let mut bare = live.clone();
    object::metadata(&mut bare).remove("managedFields");
    let mut managers = Managers::read(live).unwrap_or_default();
    if managers.is_empty() {
        let all = compare(&json!({}), &bare, schema, writer.reset).added;
        let before = Writer { manager: BEFORE, subresource: "", ..*writer };
        if !all.is_empty() {
            managers.put(Entry::new(&before, Operation::Update, all));
        }
    }
    let attempt = Attempt { live: &bare, wanted: &wanted, schema, writer };
    let (mut new, managers) = match attempt.run(managers.clone(), force) {
        Err(conflicts) if writer.manager == "kubectl" => {
            let allowed = own_by_annotation(&bare, schema, writer);
            let foreign: Vec<_> = conflicts.into_iter().filter(|(_, path)| !allowed.has(path)).collect();
            match foreign.is_empty() {
                true => attempt.run(managers, true),
                false => Err(foreign),
            }
        }
        outcome => outcome,
    }
    .map_err(|conflicts| {
        let path = |path: &[Element]| path.iter().map(Element::to_string).collect::<String>();
        ApplyError::Conflicts(conflicts.iter().map(|(manager, one)| (manager.clone(), path(one))).collect())
    })?;
    if writer.manager == "kubectl" && !annotation(&new).is_empty() {
        annotate(&mut new, config);
    }
    managers.write(&mut new);
    Ok(new)
}

/// Of each the manager, as it is named in messages, and the path.
type Conflicts = Vec<(String, Vec<Element>)>;

struct Attempt<'a> {
    live: &'a Value,
    wanted: &'a Value,
    schema: Schema<'a>,
    writer: &'a Writer<'a>,
}

impl Attempt<'_> {
    fn run(&self, mut managers: Managers, force: bool) -> Result<(Value, Managers), Conflicts> {
        let (schema, writer) = (self.schema, self.writer);
        let fields = Set::of_value(self.wanted, schema).owned(None).without(writer.reset);
        let mut mine = Entry::new(writer, Operation::Apply, fields);
        let last = managers.take(&mine);
        let merged = merge(self.live, self.wanted, schema);
        let new = match &last {
            Some(last) if !last.fields.is_empty() => {
                self.prune(merged, &managers, &mine.fields, &last.fields)
            }
            _ => merged,
        };
        let found = compare(self.live, &new, schema, writer.reset);
        let changed = found.modified.union(&found.added);
        let mut conflicts = Conflicts::new();
        for entry in &mut managers.entries {
            let taken = entry.fields.intersection(&changed);
            conflicts.extend(taken.paths().into_iter().map(|path| (entry.named(), path)));
            entry.fields = entry.fields.difference(&taken).difference(&found.removed);
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        managers.entries.retain(|entry| !entry.fields.is_empty());
        // The time moves only if something did.
        if let Some(last) = last.filter(|last| found.is_empty() && last.fields == mine.fields) {
            mine.time = last.time;
        }
        managers.put(mine);
        Ok((new, managers))
    }

    /// Removes what this applier applied last time and no longer does, unless others own it. What is below something removed and
    /// owned by nobody goes too; what nobody applied stays.
    fn prune(&self, merged: Value, others: &Managers, mine: &Set, last: &Set) -> Value {
        let schema = self.schema;
        let of = |value: &Value| Set::of_value(value, schema).with_named(schema);
        let without = |gone: &Set| remove(&merged, gone, schema).unwrap_or_else(|| json!({}));
        let last = last.with_named(schema);
        let pruned = without(&last);
        let owned = others.entries.iter().fold(mine.clone(), |all, entry| all.union(&entry.fields));
        let all = of(&merged);
        // Back comes what anybody owns ...
        let pruned = without(&all.difference(&of(&pruned).union(&owned.with_named(schema))));
        // ... and what was not this applier's.
        without(&all.difference(&of(&pruned)).intersection(&last))
    }
}

fn annotation(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str).unwrap_or_default()
}

/// What `kubectl apply` had applied to the object and is still as it was applied: server-side apply by kubectl takes it over.
fn own_by_annotation(live: &Value, schema: Schema<'_>, writer: &Writer<'_>) -> Set {
    let last: Value = serde_json::from_str(annotation(live)).unwrap_or_default();
    if text(&last, "/apiVersion") != writer.api_version {
        return Set::default();
    }
    let found = compare(&last, live, schema, &[]);
    Set::of_value(&last, schema)
        .difference(&found.modified)
        .difference(&found.added)
        .difference(&found.removed)
}

/// Keeps the annotation of `kubectl apply` in step with what is applied by the server.
fn annotate(object: &mut Value, config: &Value) {
    let mut applied = config.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let annotations = object::map_in(object::metadata(object), "annotations");
    annotations.insert(LAST_APPLIED.to_owned(), json!(format!("{applied}\n")));
}
