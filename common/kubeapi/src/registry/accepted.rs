//! Names of definitions: no two of a group have the same (`apiextensions-apiserver/pkg/controller/status/naming_controller.go`).

use apimachinery::object::{as_map, list, text};
use serde_json::{Value, json};

use super::Resource;

/// Takes the names of a definition for its own, unless `others`, which are served, have them. What is not accepted is not
/// served.
pub(super) fn accept<'a>(
    definition: &mut Value,
    others: impl Iterator<Item = &'a Resource> + Clone,
    (now, is_new): (&str, bool),
) {
    let names = definition["spec"]["names"].clone();
    let (group, own) =
        (text(definition, "/spec/group").to_owned(), text(definition, "/metadata/name").to_owned());
    if !names.is_object() {
        return;
    }
    let others = others.filter(|other| other.custom && other.group == group && other.key() != own);
    let resources: Vec<&str> = others
        .clone()
        .flat_map(|other| {
            let names = [other.plural.as_str(), other.singular.as_str()];
            names.into_iter().chain(other.short_names.iter().map(String::as_str))
        })
        .collect();
    let kinds: Vec<&str> = others.flat_map(|other| [other.kind.as_str(), other.list_kind.as_str()]).collect();
    let mut accepted = names.clone();
    let mut conflict = None;
    for (field, taken, reason) in [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("shortNames", &resources, "ShortNamesConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let of = names[field]
            .as_str()
            .into_iter()
            .chain(list(&names, &format!("/{field}")).iter().filter_map(Value::as_str));
        if let Some(name) = of.into_iter().find(|name| taken.contains(name)) {
            conflict = Some((reason, format!("{name:?} is already in use")));
            as_map(&mut accepted).remove(field);
        }
    }
    let conditions = match conflict {
        None => [
            ("NamesAccepted", "True", "NoConflicts", "no conflicts found".to_owned()),
            (
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted".to_owned(),
            ),
        ],
        Some((reason, message)) => {
            // What has been served goes on to be.
            let was = list(definition, "/status/conditions").iter();
            let was = was.clone().any(|one| one["type"] == "NamesAccepted" && one["status"] == "True");
            if was && !is_new {
                return;
            }
            [
                ("NamesAccepted", "False", reason, message),
                ("Established", "False", "NotAccepted", "not all names are accepted".to_owned()),
            ]
        }
    };
    definition["status"]["acceptedNames"] = accepted;
    let old = list(definition, "/status/conditions").to_vec();
    let mut all: Vec<Value> =
        old.iter().filter(|one| !conditions.iter().any(|new| one["type"] == *new.0)).cloned().collect();
    for (kind, status, reason, message) in conditions {
        let same = old.iter().find(|one| one["type"] == kind && one["status"] == status);
        let since = same.map_or_else(|| json!(now), |one| one["lastTransitionTime"].clone());
        all.push(json!({ "type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message }));
    }
    definition["status"]["conditions"] = Value::Array(all);
}

/// True if the definition is served: its names are its own.
pub(super) fn is_established(definition: &Value) -> bool {
    let conditions = list(definition, "/status/conditions");
    !conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "False")
}
