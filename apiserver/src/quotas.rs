//! Counts what is used of quotas (`pkg/controller/resourcequota`): of new ones, and when something that they count goes or ends.
//!
//! One task that follows all changes. It counts in the turn of those who charge, so that what it writes is never less than what
//! is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::{Status, quota};
use kubeapi::stored::{Event, EventKind, ListQuery};
use serde_json::Value;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::admission::limits;
use crate::context::Context;
use crate::limits::QUOTAS;

/// Until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut events = context.storage.subscribe(None);
    let mut due = context.limits.limited();
    loop {
        for namespace in std::mem::take(&mut due) {
            if let Err(status) = count(&context, &namespace).await {
                tracing::warn!(namespace, error = %status, "could not count what is used of quotas");
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            doubtful = context.limits.doubtful() => due = doubtful,
            received = events.recv() => match received {
                Ok(event) => due.extend(concerned(&context, &event)),
                Err(RecvError::Lagged(_)) => due = context.limits.limited(),
                Err(RecvError::Closed) => return,
            },
        }
        // What has gathered is counted once.
        loop {
            match events.try_recv() {
                Ok(event) => due.extend(concerned(&context, &event)),
                Err(TryRecvError::Lagged(_)) => due = context.limits.limited(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }
}

/// The namespace, if the change may count in it.
fn concerned(context: &Context, event: &Event) -> Option<String> {
    let key = &event.stored.key;
    let quotas = context.limits.quotas(&key.namespace);
    if key.namespace.is_empty() || quotas.is_empty() {
        return None;
    }
    if key.resource == QUOTAS {
        let stored = event.stored.value().ok().filter(|_| event.kind != EventKind::Deleted);
        let is_new = stored.is_none_or(|quota| quota["spec"]["hard"] != quota["status"]["hard"]);
        return is_new.then(|| key.namespace.clone());
    }
    let (plural, group) = key.resource.split_once('.').unwrap_or((&key.resource, ""));
    let of = quota::Of { group, plural };
    let phase = |traits: &apimachinery::traits::Traits| traits.fields.get("status.phase").cloned();
    let is_other = match event.kind {
        EventKind::Added | EventKind::Deleted => true,
        EventKind::Modified if plural == "pods" => {
            event.previous.as_ref().is_some_and(|before| phase(before) != phase(&event.traits))
        }
        EventKind::Modified => of.grows(),
    };
    let is_counted = is_other && quotas.iter().any(|quota| counts(&quota.value, of));
    is_counted.then(|| key.namespace.clone())
}

fn counts(quota: &Value, of: quota::Of<'_>) -> bool {
    let hard = quota["spec"]["hard"].as_object().into_iter().flatten();
    of.plural != "events" && hard.into_iter().any(|(resource, _)| of.counts(resource))
}

/// Counts what is used of the quotas of a namespace.
async fn count(context: &Context, namespace: &str) -> Result<(), Status> {
    let _turn = limits::turn(context, namespace).await;
    let quotas = context.limits.quotas(namespace);
    let mut objects = Vec::new();
    for resource in context.registry.resources() {
        let of = quota::Of { group: &resource.group, plural: &resource.plural };
        if !resource.namespaced || !quotas.iter().any(|quota| counts(&quota.value, of)) {
            continue;
        }
        let query = ListQuery {
            resource: resource.key(),
            namespace: Some(namespace.to_owned()),
            ..ListQuery::default()
        };
        let found: Vec<Value> = context
            .storage
            .list(query)
            .await?
            .items
            .iter()
            .map(|one| one.value())
            .collect::<Result<_, _>>()?;
        objects.push((resource.clone(), found));
    }
    let mut all: BTreeSet<String> = BTreeSet::new();
    for quota in quotas {
        let each = objects.iter().flat_map(|(resource, found)| {
            let of = quota::Of { group: &resource.group, plural: &resource.plural };
            found.iter().map(move |object| (of, object))
        });
        let used = quota::used(&quota.value, each);
        // Who has changed it meanwhile is an event of its own.
        if !limits::write(context, &quota, &used).await? {
            all.insert(namespace.to_owned());
        }
    }
    all.iter().for_each(|namespace| context.limits.doubt(namespace));
    Ok(())
}
