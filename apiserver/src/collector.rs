//! What follows from deletions: dependents of a deleted owner go, and so do the contents of a deleted namespace.
//!
//! Events older than an hour go too, and certificate signing requests that are done with or a day old, as in Kubernetes;
//! they are looked for when new ones come, never by a timer.
//!
//! One task that follows all changes. It keeps no state: after falling behind, and at the start, it looks at
//! everything that could be left over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::traits::Traits;
use apimachinery::{Status, object};
use kubeapi::registry::DEFINITIONS;
use kubeapi::stored::{Event, EventKind, Key, ListQuery};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::EMPTIES;
use crate::context::Context;
use crate::dependents;
use crate::owners::{self, Owner};
use crate::storage::{Change, WriteError};
use crate::verbs::create::namespace::restore;
use crate::verbs::delete::Propagation;

pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut events = context.storage.subscribe(None);
    sweep(&context).await;
    let mut next_expiry = Instant::now();
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            received = events.recv() => received,
        };
        let ages = matches!(&received, Ok(event) if is_of_those_that_age(event));
        if ages && Instant::now() >= next_expiry {
            next_expiry = Instant::now() + EXPIRY_EVERY;
            if let Err(status) = expire(&context).await {
                tracing::warn!(error = %status, "could not delete old events and signing requests");
            }
        }
        let outcome = match received {
            Ok(event) => follow(&context, &event).await,
            Err(RecvError::Lagged(_)) => {
                sweep(&context).await;
                Ok(())
            }
            Err(RecvError::Closed) => return,
        };
        if let Err(status) = outcome {
            tracing::warn!(error = %status, "could not clean up after a deletion");
        }
    }
}

/// The finalizers of this room, as they are in stored objects.
const HOLDING: [&str; 2] = ["\"foregroundDeletion\"", "\"orphan\""];

/// Seconds an event is kept, the default of the real server.
const EVENT_LIFETIME: i64 = 3600;
const EXPIRY_EVERY: Duration = Duration::from_secs(300);

/// Seconds a signing request is kept that waits, and one that was decided (kube-controller-manager's cleaner).
const REQUEST_LIFETIMES: (i64, i64) = (24 * 3600, 3600);
const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";

fn is_of_those_that_age(event: &Event) -> bool {
    let resource = event.stored.key.resource.as_str();
    event.kind == EventKind::Added && (resource == "events" || resource == REQUESTS)
}

/// The moment `lifetime` seconds ago, as RFC 3339.
fn ago(lifetime: i64) -> String {
    let moment = jiff::Timestamp::from_second(daemon::clock::unix_seconds() - lifetime);
    daemon::clock::rfc3339(moment.unwrap_or_default())
}

async fn expire(context: &Context) -> Result<(), Status> {
    expire_events(context).await?;
    let (waiting, decided) = (ago(REQUEST_LIFETIMES.0), ago(REQUEST_LIFETIMES.1));
    let query = ListQuery { resource: REQUESTS.to_owned(), ..ListQuery::default() };
    for item in context.storage.list(query).await?.items {
        if is_over(&item.value()?, &waiting, &decided) {
            dependents::purge(context, &item.key).await?;
        }
    }
    Ok(())
}

/// True if a signing request is older than one of its kind is kept.
fn is_over(request: &Value, waiting: &str, decided: &str) -> bool {
    let oldest = if object::list(request, "/status/conditions").is_empty() { waiting } else { decided };
    object::text(request, "/metadata/creationTimestamp") < oldest
}

async fn expire_events(context: &Context) -> Result<(), Status> {
    let oldest = ago(EVENT_LIFETIME);
    let query = ListQuery { resource: "events".to_owned(), ..ListQuery::default() };
    for item in context.storage.list(query).await?.items {
        let value = item.value()?;
        let times = ["/metadata/creationTimestamp", "/lastTimestamp", "/series/lastObservedTime"];
        // RFC 3339 in UTC sorts as text.
        let last = times.iter().map(|pointer| object::text(&value, pointer)).max().unwrap_or_default();
        if last < oldest.as_str() {
            dependents::purge(context, &item.key).await?;
        }
    }
    Ok(())
}

async fn follow(context: &Context, event: &Event) -> Result<(), Status> {
    let key = &event.stored.key;
    if context.restores {
        restore(context, event).await?;
    }
    match event.kind {
        EventKind::Deleted => {
            let value = event.stored.value()?;
            for dependent in context.storage.dependents(object::uid(&value)).await? {
                reconsider(context, &dependent).await?;
            }
            // An owner may wait for it.
            for owner in object::list(&value, "/metadata/ownerReferences") {
                if let Owner::Is(owner) = owners::find(context, owner, &key.namespace).await? {
                    dependents::advance(context, &owner).await?;
                }
            }
            if key.resource == DEFINITIONS {
                remove_instances(context, &key.name).await?;
                accept_names(context).await?;
            }
            if !key.namespace.is_empty() {
                empty_namespace(context, &key.namespace).await?;
            }
        }
        EventKind::Added | EventKind::Modified => {
            if event.stored.body.contains("\"ownerReferences\"") {
                reconsider(context, key).await?;
            }
            if HOLDING.iter().any(|finalizer| event.stored.body.contains(finalizer)) {
                dependents::advance(context, key).await?;
            }
            if key.resource == "namespaces" {
                empty_namespace(context, &key.name).await?;
            }
        }
    }
    Ok(())
}

/// Deletes an object if it has owners and none of them exists; takes out references to some that do not.
async fn reconsider(context: &Context, key: &Key) -> Result<(), Status> {
    let Some(stored) = context.storage.get(key).await? else { return Ok(()) };
    let value = stored.value()?;
    let owners = object::list(&value, "/metadata/ownerReferences");
    let mut gone = Vec::new();
    for owner in owners {
        if owners::find(context, owner, &key.namespace).await? == Owner::Absent {
            gone.push(object::text(owner, "/uid"));
        }
    }
    if gone.is_empty() || object::deleting(&value) {
        return Ok(());
    }
    if gone.len() == owners.len() {
        return dependents::remove(context, key, Propagation::Background).await;
    }
    for uid in gone {
        dependents::release(context, key.clone(), uid).await?;
    }
    Ok(())
}

async fn remove_instances(context: &Context, resource: &str) -> Result<(), Status> {
    let query = ListQuery { resource: resource.to_owned(), ..ListQuery::default() };
    for item in context.storage.list(query).await?.items {
        dependents::purge(context, &item.key).await?;
    }
    Ok(())
}

/// Definitions whose names another one had may have them now.
async fn accept_names(context: &Context) -> Result<(), Status> {
    let query = ListQuery { resource: DEFINITIONS.to_owned(), ..ListQuery::default() };
    for item in context.storage.list(query).await?.items {
        let before = item.value()?;
        let conditions = object::list(&before, "/status/conditions");
        if !conditions.iter().any(|one| one["type"] == "NamesAccepted" && one["status"] == "False") {
            continue;
        }
        let mut value = before.clone();
        context.registry.accept(&mut value, &daemon::clock::rfc3339(daemon::clock::now()), false);
        if value == before {
            continue;
        }
        let previous = Traits::of(DEFINITIONS, &before);
        let change = Change::Update { value, expected: item.revision, previous };
        match context.storage.commit(item.key, change).await {
            Err(WriteError::Store(status)) => return Err(status),
            Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => {}
        }
    }
    Ok(())
}

/// Moves the deletion of a namespace on: deletes what is in it, or, if that is nothing, the namespace.
async fn empty_namespace(context: &Context, namespace: &str) -> Result<(), Status> {
    let key = Key::new("namespaces", "", namespace);
    let Some(stored) = context.storage.get(&key).await? else { return Ok(()) };
    let value = stored.value()?;
    if !object::deleting(&value) {
        return Ok(());
    }
    let is_pod = |inner: &Key| inner.resource == "pods";
    for inner in context.storage.contents(namespace).await?.iter().filter(|inner| is_pod(inner)) {
        dependents::remove(context, inner, Propagation::Background).await?;
    }
    // What pods may need stays until they have ended (KEP-5080).
    let rest = context.storage.contents(namespace).await?;
    if !rest.iter().any(is_pod) {
        for inner in rest {
            dependents::remove(context, &inner, Propagation::Background).await?;
        }
    }
    let others = object::list(&value, "/spec/finalizers").iter().any(|one| *one != EMPTIES);
    let waits =
        others || object::has_finalizers(&value) || !context.storage.contents(namespace).await?.is_empty();
    if waits { say_why(context, &key).await } else { dependents::purge(context, &key).await }
}

/// A namespace says what it waits for (`pkg/controller/namespace/deletion/status_condition_utils.go`).
async fn say_why(context: &Context, key: &Key) -> Result<(), Status> {
    let mut kinds = BTreeMap::<String, usize>::new();
    let mut finalizers = BTreeMap::<String, usize>::new();
    for inner in context.storage.contents(&key.name).await? {
        let Some(stored) = context.storage.get(&inner).await? else { continue };
        let (plural, group) = inner.resource.split_once('.').unwrap_or((&inner.resource, ""));
        let name = if group.is_empty() { format!("{plural}.") } else { format!("{plural}.{group}") };
        *kinds.entry(name).or_default() += 1;
        for finalizer in object::list(&stored.value()?, "/metadata/finalizers") {
            *finalizers.entry(finalizer.as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    let told = |all: &BTreeMap<String, usize>, what: &str| {
        let each: Vec<String> = all
            .iter()
            .map(|(name, count)| format!("{name} {what} {count} {}", "resource instances"))
            .collect();
        each.join(", ")
    };
    let conditions = [
        (
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
            false,
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
            false,
        ),
        (
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
            false,
        ),
        match kinds.is_empty() {
            true => (
                "NamespaceContentRemaining",
                "ContentRemoved",
                "All content successfully removed".to_owned(),
                false,
            ),
            false => {
                let told = format!("Some resources are remaining: {}", told(&kinds, "has"));
                ("NamespaceContentRemaining", "SomeResourcesRemain", told, true)
            }
        },
        match finalizers.is_empty() {
            true => (
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
                false,
            ),
            false => {
                let told = format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    told(&finalizers, "in")
                );
                ("NamespaceFinalizersRemaining", "SomeFinalizersRemain", told, true)
            }
        },
    ];
    let Some(stored) = context.storage.get(key).await? else { return Ok(()) };
    let before = stored.value()?;
    let old = object::list(&before, "/status/conditions").to_vec();
    let now = daemon::clock::rfc3339(daemon::clock::now());
    let said = conditions.into_iter().map(|(kind, reason, message, is_true)| {
        let status = if is_true { "True" } else { "False" };
        let same = old.iter().find(|one| one["type"] == kind && one["status"] == status);
        let since = same.map_or_else(|| json!(now), |one| one["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message})
    });
    let said: Vec<Value> = said.collect();
    if said == old {
        return Ok(());
    }
    let mut value = before.clone();
    value["status"]["conditions"] = Value::Array(said);
    let previous = Traits::of("namespaces", &before);
    let change = Change::Update { value, expected: stored.revision, previous };
    match context.storage.commit(key.clone(), change).await {
        Err(WriteError::Store(status)) => Err(status),
        Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(()),
    }
}

async fn sweep(context: &Context) {
    if let Err(status) = try_sweep(context).await {
        tracing::warn!(error = %status, "could not look for leftovers of deletions");
    }
}

async fn try_sweep(context: &Context) -> Result<(), Status> {
    for key in context.storage.orphans().await? {
        reconsider(context, &key).await?;
    }
    for finalizer in HOLDING {
        for key in context.storage.that_say(finalizer).await? {
            dependents::advance(context, &key).await?;
        }
    }
    let namespaces = ListQuery { resource: "namespaces".to_owned(), ..ListQuery::default() };
    for namespace in context.storage.list(namespaces).await?.items {
        empty_namespace(context, &namespace.key.name).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signing_request_that_waits_is_kept_for_a_day_and_a_decided_one_for_an_hour() {
        let request = |age: i64, conditions: Value| json!({"metadata": {"creationTimestamp": ago(age)}, "status": {"conditions": conditions}});
        let over = |request: &Value| is_over(request, &ago(REQUEST_LIFETIMES.0), &ago(REQUEST_LIFETIMES.1));
        assert!(!over(&request(23 * 3600, Value::Null)) && over(&request(25 * 3600, Value::Null)));
        let approved = json!([{"type": "Approved"}]);
        assert!(!over(&request(3000, approved.clone())) && over(&request(4000, approved)));
    }
}
