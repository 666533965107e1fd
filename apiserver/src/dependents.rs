//! Dependents of an object that goes without them.

use apimachinery::traits::Traits;
use apimachinery::{Status, object};
use kubeapi::stored::Key;
use serde_json::Value;

use crate::context::Context;
use crate::storage::{Change, WriteError};

/// Takes the owner `uid` out of its dependents, so that they survive it.
pub(crate) async fn release_all(context: &Context, uid: &str) -> Result<(), Status> {
    // A dependent that was changed meanwhile is still in the index and is tried again.
    loop {
        let dependents = context.storage.dependents(uid).await?;
        if dependents.is_empty() {
            return Ok(());
        }
        for key in dependents {
            release(context, key, uid).await?;
        }
    }
}

/// Takes the owner out of one object.
pub(crate) async fn release(context: &Context, key: Key, owner: &str) -> Result<(), Status> {
    let Some(stored) = context.storage.get(&key).await? else { return Ok(()) };
    let mut value = stored.value()?;
    let previous = Traits::of(&key.resource, &value);
    if let Some(Value::Array(owners)) = value.pointer_mut("/metadata/ownerReferences") {
        owners.retain(|reference| object::text(reference, "/uid") != owner);
    }
    let change = Change::Update { value, expected: stored.revision, previous };
    match context.storage.commit(key, change).await {
        Err(WriteError::Store(status)) => Err(status),
        Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(()),
    }
}
