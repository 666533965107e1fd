//! ControllerRevisions: the templates that a DaemonSet or StatefulSet had, so that it can go back
//! (`pkg/controller/history`).

use apimachinery::kinds::lines;
use apimachinery::object::{self, integer};
use apimachinery::{LabelSelector, Status};
use serde_json::{Value, json};

use crate::api::Kind;
use crate::shell::Work;
use crate::{hash, ownership};

pub(crate) const KIND: Kind = &lines::ControllerRevision;
/// On pods and revisions.
pub(crate) const HASH: &str = "controller-revision-hash";

pub(crate) fn number(revision: &Value) -> i64 {
    integer(revision, "/revision").unwrap_or(0)
}

/// The template of a revision.
pub(crate) fn template(revision: &Value) -> Value {
    let mut template = revision["data"]["spec"]["template"].clone();
    object::as_map(&mut template).remove("$patch");
    template
}

/// What a revision of the owner's template says: the patch that leads back to it.
fn data(owner: &Value) -> Value {
    let mut template = owner["spec"]["template"].clone();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// What is to be done so that the newest revision is the owner's template.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Is(Value),
    /// An old one comes back under a new number.
    Renumber(Value),
    Make(Value),
}

/// `known` are the revisions of the owner.
pub(crate) fn next(kind: Kind, owner: &Value, known: &[Value]) -> Next {
    let data = data(owner);
    let newest = known.iter().map(number).max().unwrap_or(0);
    if let Some(same) = known.iter().filter(|revision| revision["data"] == data).max_by_key(|one| number(one))
    {
        if number(same) == newest {
            return Next::Is(same.clone());
        }
        let mut again = same.clone();
        again["revision"] = json!(newest + 1);
        return Next::Renumber(again);
    }
    let collisions = integer(owner, "/status/collisionCount").unwrap_or(0);
    let hash = hash::of(&data, collisions);
    let mut labels = owner["spec"]["template"]["metadata"]["labels"].clone();
    object::as_map(&mut labels).insert(HASH.to_owned(), json!(hash));
    Next::Make(json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": format!("{}-{hash}", object::name(owner)), "namespace": object::namespace(owner), "labels": labels,
            "annotations": owner["metadata"]["annotations"],
            "ownerReferences": [ownership::reference(kind, owner)],
        },
        "data": data, "revision": newest + 1,
    }))
}

/// Brings the revisions of an owner up to date: the one of its template, and all others, oldest first.
pub(crate) async fn sync(
    work: &Work,
    kind: Kind,
    owner: &Value,
    selector: &LabelSelector,
) -> Result<(Value, Vec<Value>), Status> {
    let candidates =
        work.cache.store(KIND).candidates(object::namespace(owner), object::uid(owner), selector);
    let claims = ownership::claim(owner, selector, candidates);
    let mut known = claims.owned;
    for orphan in claims.adopt {
        work.client.patch_object(KIND, &orphan, ownership::adoption(kind, owner, &orphan)).await?;
        known.push(orphan);
    }
    let update = match next(kind, owner, &known) {
        Next::Is(revision) => revision,
        Next::Renumber(revision) => work.client.update(KIND, &revision).await?,
        Next::Make(revision) => work.client.create(KIND, &revision).await?,
    };
    let mut others: Vec<Value> =
        known.into_iter().filter(|one| object::uid(one) != object::uid(&update)).collect();
    others.sort_by_key(number);
    Ok((update, others))
}

/// Deletes those of `others` that no pod has, but for as many as the history keeps.
pub(crate) async fn clean_up(
    work: &Work,
    owner: &Value,
    others: &[Value],
    is_used: impl Fn(&Value) -> bool,
) -> Result<(), Status> {
    let limit = integer(owner, "/spec/revisionHistoryLimit").unwrap_or(10);
    let unused: Vec<&Value> = others.iter().filter(|revision| !is_used(revision)).collect();
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in unused.into_iter().take(surplus) {
        work.client.delete(KIND, revision).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_comes_back_gets_a_new_number_and_no_new_revision() {
        let owner = |image: &str| json!({"metadata": {"name": "d", "uid": "d"}, "spec": {"template": {"metadata": {"labels": {"app": "a"}}, "image": image}}});
        let made = |owner: &Value, known: &[Value]| match next(&lines::DaemonSet, owner, known) {
            Next::Make(revision) => revision,
            other => panic!("{other:?}"),
        };
        let first = made(&owner("1"), &[]);
        let second = made(&owner("2"), std::slice::from_ref(&first));
        assert_eq!((number(&first), number(&second)), (1, 2));
        assert_eq!(template(&first), owner("1")["spec"]["template"]);
        let known = [first, second];
        assert_eq!(next(&lines::DaemonSet, &owner("2"), &known), Next::Is(known[1].clone()));
        assert!(
            matches!(next(&lines::DaemonSet, &owner("1"), &known), Next::Renumber(again) if number(&again) == 3)
        );
    }
}
