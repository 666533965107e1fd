//! Keeps cluster roles that are made of others in step with them.

use apimachinery::Status;
use apimachinery::rbac::aggregated;
use apimachinery::traits::Traits;
use kubeapi::stored::{Key, ListQuery};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::roles;
use crate::storage::{Change, WriteError};

pub(crate) const ROLES: &str = "clusterroles";

/// Until `stop`.
pub(crate) async fn run(context: std::sync::Arc<Context>, stop: CancellationToken) {
    let mut changes = context.storage.subscribe(Some(&roles::key(ROLES)));
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            received = changes.recv() => received,
        };
        if let Err(RecvError::Closed) = received {
            return;
        }
        if let Err(status) = aggregate(&context).await {
            tracing::warn!(error = %status, "could not bring cluster roles in step with those they are made of");
        }
    }
}

/// Brings all of them in step.
pub(crate) async fn aggregate(context: &Context) -> Result<(), Status> {
    let query = ListQuery { resource: roles::key(ROLES), ..ListQuery::default() };
    let stored = context.storage.list(query).await?.items;
    let all: Vec<Value> = stored.iter().map(|role| role.value()).collect::<Result<_, _>>()?;
    for (stored, role) in stored.iter().zip(&all) {
        let Some(rules) = aggregated(role, &all).filter(|rules| role["rules"] != json!(rules)) else {
            continue;
        };
        let mut value = role.clone();
        value["rules"] = json!(rules);
        let key = Key::new(&stored.key.resource, "", &stored.key.name);
        let previous = Traits::of(&stored.key.resource, role);
        let change = Change::Update { value, expected: stored.revision, previous };
        match context.storage.commit(key, change).await {
            // Somebody else's change is an event of its own.
            Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => {}
            Err(WriteError::Store(status)) => return Err(status),
        }
    }
    Ok(())
}
