//! Dependents of an object that goes: after them, or without them.

use apimachinery::traits::Traits;
use apimachinery::{Status, object};
use kubeapi::stored::Key;
use kubeapi::target::Target;
use serde_json::Value;

use crate::context::Context;
use crate::owners::{self, Owner};
use crate::storage::{Change, WriteError};
use crate::verbs::delete::{self, Propagation};
use crate::verbs::update;

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
        if owners.is_empty() {
            object::metadata(&mut value).remove("ownerReferences");
        }
    }
    let change = Change::Update { value, expected: stored.revision, previous };
    match context.storage.commit(key, change).await {
        Err(WriteError::Store(status)) => Err(status),
        Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(()),
    }
}

/// Moves on the deletion of an object that waits for what becomes of its dependents: by foreground deletion or orphaning.
pub(crate) async fn advance(context: &Context, key: &Key) -> Result<(), Status> {
    let Some(stored) = context.storage.get(key).await? else { return Ok(()) };
    let value = stored.value()?;
    if !object::deleting(&value) {
        return Ok(());
    }
    for propagation in [Propagation::Orphan, Propagation::Foreground] {
        let Some(finalizer) = propagation.finalizer().filter(|one| has(&value, one)) else { continue };
        let is_done = match propagation {
            Propagation::Orphan => release_all(context, object::uid(&value)).await.map(|()| true)?,
            _ => foreground(context, object::uid(&value)).await?,
        };
        if is_done {
            return let_go(context, key, finalizer).await;
        }
    }
    Ok(())
}

fn has(value: &Value, finalizer: &str) -> bool {
    object::list(value, "/metadata/finalizers").iter().any(|one| one == finalizer)
}

/// Deletes the dependents of `owner`; true when none is left that blocks it.
async fn foreground(context: &Context, owner: &str) -> Result<bool, Status> {
    let mut is_blocked = false;
    for key in context.storage.dependents(owner).await? {
        let Some(stored) = context.storage.get(&key).await? else { continue };
        let value = stored.value()?;
        let (own, others): (Vec<&Value>, Vec<&Value>) = object::list(&value, "/metadata/ownerReferences")
            .iter()
            .partition(|reference| object::text(reference, "/uid") == owner);
        let mut stays = false;
        for other in others {
            stays |= owners::find(context, other, &key.namespace).await? != Owner::Absent;
        }
        if stays {
            release(context, key, owner).await?;
            continue;
        }
        let further = context.storage.dependents(object::uid(&value)).await?;
        let propagation = if further.is_empty() { Propagation::Background } else { Propagation::Foreground };
        let is_circle = any_waits(context, &further).await?;
        if is_circle {
            unblock(context, key.clone()).await?;
        }
        if !object::deleting(&value) {
            remove(context, &key, propagation).await?;
        }
        let blocks = !is_circle && own.iter().any(|reference| reference["blockOwnerDeletion"] == true);
        is_blocked |= blocks && context.storage.get(&key).await?.is_some();
    }
    Ok(!is_blocked)
}

/// True if one of these waits for its own dependents: owners may lead in a circle.
async fn any_waits(context: &Context, keys: &[Key]) -> Result<bool, Status> {
    for key in keys {
        let Some(stored) = context.storage.get(key).await? else { continue };
        let value = stored.value()?;
        let finalizer = Propagation::Foreground.finalizer();
        if object::deleting(&value) && finalizer.is_some_and(|finalizer| has(&value, finalizer)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lets the owners of an object go without it (`unblockOwnerReferencesStrategicMergePatch` of `pkg/controller/garbagecollector`).
async fn unblock(context: &Context, key: Key) -> Result<(), Status> {
    let Some(stored) = context.storage.get(&key).await? else { return Ok(()) };
    let mut value = stored.value()?;
    let previous = Traits::of(&key.resource, &value);
    let mut is_changed = false;
    for owner in object::maps_in(object::metadata(&mut value), "ownerReferences") {
        let blocked = owner.insert("blockOwnerDeletion".to_owned(), Value::Bool(false));
        is_changed |= blocked == Some(Value::Bool(true));
    }
    if !is_changed {
        return Ok(());
    }
    let change = Change::Update { value, expected: stored.revision, previous };
    match context.storage.commit(key, change).await {
        Err(WriteError::Store(status)) => Err(status),
        Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(()),
    }
}

/// Takes a finalizer off; the object goes with its last one.
async fn let_go(context: &Context, key: &Key, finalizer: &str) -> Result<(), Status> {
    loop {
        let Some(stored) = context.storage.get(key).await? else { return Ok(()) };
        let mut value = stored.value()?;
        let previous = Traits::of(&key.resource, &value);
        if !has(&value, finalizer) {
            return Ok(());
        }
        if let Some(Value::Array(finalizers)) = value.pointer_mut("/metadata/finalizers") {
            finalizers.retain(|one| one != finalizer);
            if finalizers.is_empty() {
                object::metadata(&mut value).remove("finalizers");
            }
        }
        let expected = stored.revision;
        let change = match update::finished(&value) {
            true => Change::Delete { value, expected, previous },
            false => Change::Update { value, expected, previous },
        };
        match context.storage.commit(key.clone(), change).await {
            Err(WriteError::Store(status)) => return Err(status),
            // Changed meanwhile: looked at again.
            Err(WriteError::Stale) => {}
            Ok(_) | Err(WriteError::Missing | WriteError::Exists) => return Ok(()),
        }
    }
}

/// Deletes an object as its client would, without webhooks.
pub(crate) async fn remove(context: &Context, key: &Key, propagation: Propagation) -> Result<(), Status> {
    let Some(served) = context.registry.by_key(&key.resource) else {
        return purge(context, key).await;
    };
    let target = Target {
        served,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        subresource: String::new(),
    };
    let options = delete::Options { propagation, ..delete::Options::default() };
    match delete::remove(context, &target, &options, None).await {
        Err(status) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Removes an object of a resource that is not served any more.
pub(crate) async fn purge(context: &Context, key: &Key) -> Result<(), Status> {
    let Some(stored) = context.storage.get(key).await? else { return Ok(()) };
    let value = stored.value()?;
    let previous = Traits::of(&key.resource, &value);
    match context
        .storage
        .commit(key.clone(), Change::Delete { value, expected: stored.revision, previous })
        .await
    {
        Ok(_) | Err(WriteError::Missing | WriteError::Stale | WriteError::Exists) => Ok(()),
        Err(WriteError::Store(status)) => Err(status),
    }
}
