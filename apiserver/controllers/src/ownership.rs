//! Who controls an object: the owner reference that says so, and which objects a controller takes over or lets go
//! (`pkg/controller/controller_ref_manager.go`).

use apimachinery::LabelSelector;
use apimachinery::object::{self, list, text};
use serde_json::{Value, json};

use crate::api::Kind;

/// What holds the pods of a Job until they are counted.
pub(crate) const JOB_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// The reference to the controller of an object.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    list(object, "/metadata/ownerReferences").iter().find(|owner| owner["controller"] == true)
}

/// The uid of an object's controller, or "".
pub(crate) fn controller_uid(object: &Value) -> &str {
    controller(object).map(|owner| text(owner, "/uid")).unwrap_or_default()
}

/// The name of the controller, if it is of this kind.
pub(crate) fn controller_name(object: &Value, kind: Kind) -> Option<&str> {
    let owner = controller(object)?;
    let group = text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
    (text(owner, "/kind") == kind.kind && group == kind.group).then(|| text(owner, "/name"))
}

/// What makes `owner` the controller of an object.
pub(crate) fn reference(kind: Kind, owner: &Value) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "name": object::name(owner), "uid": object::uid(owner),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// What a controller has to do with some objects.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Claims {
    /// Its own.
    pub(crate) owned: Vec<Value>,
    /// Without a controller, and selected.
    pub(crate) adopt: Vec<Value>,
    /// Its own, but not selected any more.
    pub(crate) release: Vec<Value>,
}

/// Sorts `candidates` by what they are to `owner`.
pub(crate) fn claim(owner: &Value, selector: &LabelSelector, candidates: Vec<Value>) -> Claims {
    let mut claims = Claims::default();
    let leaving = object::deleting(owner);
    for object in candidates {
        let controller = controller_uid(&object);
        let is_mine = controller == object::uid(owner);
        let selected = selector.matches_object(&object);
        match (controller.is_empty(), is_mine, selected) {
            (_, true, true) => claims.owned.push(object),
            (_, true, false) if !leaving => claims.release.push(object),
            (true, _, true) if !leaving && !object::deleting(&object) => claims.adopt.push(object),
            _ => {}
        }
    }
    claims
}

/// The merge patch that makes `owner` the controller of an object.
pub(crate) fn adoption(kind: Kind, owner: &Value, object: &Value) -> Value {
    let mut owners = list(object, "/metadata/ownerReferences").to_vec();
    owners.push(reference(kind, owner));
    let resource_version = object::resource_version(object);
    json!({"metadata": {"uid": object::uid(object), "resourceVersion": resource_version, "ownerReferences": owners}})
}

/// The merge patch that takes `owner` out of an object, and the finalizer of Jobs with it: nobody else would.
pub(crate) fn release(owner: &Value, object: &Value) -> Value {
    let owners = list(object, "/metadata/ownerReferences").iter();
    let others: Vec<&Value> = owners.filter(|other| text(other, "/uid") != object::uid(owner)).collect();
    let resource_version = object::resource_version(object);
    let mut patch = json!({"metadata": {"uid": object::uid(object), "resourceVersion": resource_version, "ownerReferences": others}});
    let finalizers = list(object, "/metadata/finalizers");
    if finalizers.iter().any(|one| one == JOB_FINALIZER) {
        patch["metadata"]["finalizers"] =
            finalizers.iter().filter(|one| *one != JOB_FINALIZER).cloned().collect();
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_released_by_a_job_is_counted_by_nobody() {
        let owner = json!({"metadata": {"name": "o", "uid": "1"}});
        let pod = json!({"metadata": {"uid": "2", "ownerReferences": [{"uid": "1"}], "finalizers": ["a/b", JOB_FINALIZER]}});
        let patch = release(&owner, &pod);
        assert_eq!(
            (&patch["metadata"]["ownerReferences"], &patch["metadata"]["finalizers"]),
            (&json!([]), &json!(["a/b"]))
        );
    }

    #[test]
    fn orphans_that_are_selected_are_adopted_and_own_ones_that_are_not_are_released() {
        let owner = json!({"metadata": {"name": "o", "uid": "1"}});
        let selector = LabelSelector::parse("app=a").unwrap();
        let object = |name: &str, app: &str, owner: &str| {
            let owners = match owner {
                "" => json!([]),
                uid => json!([{"uid": uid, "controller": true}]),
            };
            json!({"metadata": {"name": name, "labels": {"app": app}, "ownerReferences": owners}})
        };
        let all = [
            ("mine", "a", "1"),
            ("orphan", "a", ""),
            ("left", "b", "1"),
            ("other", "a", "2"),
            ("none", "b", ""),
        ];
        let claims =
            claim(&owner, &selector, all.map(|(name, app, owner)| object(name, app, owner)).to_vec());
        let names = |all: &[Value]| all.iter().map(|one| object::name(one).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&claims.owned), ["mine"]);
        assert_eq!(names(&claims.adopt), ["orphan"]);
        assert_eq!(names(&claims.release), ["left"]);
    }
}
