//! Finding the owners of objects by their references, as `pkg/controller/garbagecollector` does: a reference is good for the object
//! that it names if that has its uid.

use apimachinery::{Status, object};
use kubeapi::stored::Key;
use serde_json::Value;

use crate::context::Context;

/// What a reference leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Is(Key),
    /// It is gone, or is another object of the same name.
    Absent,
    /// An object of the cluster cannot be owned by one of a namespace: nobody can say which is meant, and so nothing follows.
    Unresolvable,
}

/// Where `reference` of an object in `namespace` leads; the latter is empty for objects of the cluster.
pub(crate) async fn find(context: &Context, reference: &Value, namespace: &str) -> Result<Owner, Status> {
    let uid = object::text(reference, "/uid");
    let (group, _) = object::text(reference, "/apiVersion").split_once('/').unwrap_or_default();
    let found = match context.registry.of_kind(group, object::text(reference, "/kind")) {
        // It may be of a kind that is not served any more, and still be stored.
        None => context.storage.by_uid(uid).await?,
        Some(resource) if resource.namespaced && namespace.is_empty() => return Ok(Owner::Unresolvable),
        Some(resource) => {
            let namespace = if resource.namespaced { namespace } else { "" };
            let key = Key::new(&resource.key(), namespace, object::text(reference, "/name"));
            context.storage.is(&key, uid).await?.then_some(key)
        }
    };
    Ok(found.map_or(Owner::Absent, Owner::Is))
}
