//! The index of what lists are narrowed by: every label, and a few fields.

use apimachinery::traits::Traits;
use kubeapi::stored::{Key, ListQuery};
use store::rusqlite::{self, Transaction, params};

/// Fields that are in the index, per resource: a kubelet lists the pods of its node, `kubectl describe` the events of an object.
fn indexed(resource: &str) -> Option<&'static str> {
    match resource {
        "pods" => Some("spec.nodeName"),
        "events" => Some("involvedObject.uid"),
        _ => None,
    }
}

/// The facets of an object: `KEY=VALUE` of labels, `.FIELD=VALUE` of fields.
fn of(resource: &str, traits: &Traits) -> Vec<String> {
    let labels = traits.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let field = indexed(resource).and_then(|field| Some((field, traits.fields.get(field)?)));
    let field = field.filter(|(_, value)| !value.is_empty());
    labels.chain(field.map(|(field, value)| format!(".{field}={value}"))).collect()
}

/// One that everything that `query` selects has, and whether all that has it is selected.
pub(super) fn wanted(query: &ListQuery) -> Option<(String, bool)> {
    let field = indexed(&query.resource).and_then(|field| Some((field, query.fields.pinned(field)?)));
    if let Some((field, value)) = field.filter(|(_, value)| !value.is_empty()) {
        let only = query.labels.is_everything() && query.fields.fields().count() == 1;
        return Some((format!(".{field}={value}"), only));
    }
    let (key, value) = query.labels.pinned()?;
    Some((format!("{key}={value}"), query.fields.is_everything() && query.labels.len() == 1))
}

/// Notes that an object has become `now`, having been `before`; `None`: it did not or does not exist.
pub(super) fn note(
    transaction: &Transaction<'_>,
    key: &Key,
    before: Option<&Traits>,
    now: Option<&Traits>,
) -> rusqlite::Result<()> {
    let facets = |traits: Option<&Traits>| traits.map(|traits| of(&key.resource, traits)).unwrap_or_default();
    let (before, now) = (facets(before), facets(now));
    for facet in before.iter().filter(|facet| !now.contains(facet)) {
        transaction
            .prepare_cached(
                "DELETE FROM facets WHERE resource = ?1 AND facet = ?2 AND namespace = ?3 AND name = ?4",
            )?
            .execute(params![key.resource, facet, key.namespace, key.name])?;
    }
    for facet in now.iter().filter(|facet| !before.contains(facet)) {
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO facets (resource, facet, namespace, name) VALUES (?1,?2,?3,?4)",
            )?
            .execute(params![key.resource, facet, key.namespace, key.name])?;
    }
    Ok(())
}
