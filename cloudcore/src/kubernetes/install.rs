//! Installs the custom resource definitions, leaving newer ones alone.

mod reconcile;

use std::time::Duration;

use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::Value;

use super::{Cluster, Merge};
pub(super) use reconcile::Incompatible;
use reconcile::{Action, OURS, SCHEMA, reconcile};

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("reading the built-in definition {name}: {reason}")]
    BuiltIn { name: &'static str, reason: String },
    #[error("installing custom resource definition {name}")]
    Refused { name: &'static str, source: Status },
    #[error("custom resource definition {name}")]
    Incompatible { name: &'static str, source: Incompatible },
    #[error("custom resource definition {name} was not established within {after:?}")]
    NotEstablished { name: &'static str, after: Duration },
}

/// Path of a definition, or of all when `name` is empty.
fn path(name: &str) -> String {
    lines::CustomResourceDefinition.path(None, name)
}
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(30);
const ESTABLISH_POLL: Duration = Duration::from_millis(100);

/// Creates or updates every definition and waits until all are served. Safe to run in several replicas at once.
pub async fn install_crds(cluster: &Cluster) -> Result<(), InstallError> {
    for (name, yaml) in api::crds::ALL {
        let built_in = |error: String| InstallError::BuiltIn { name, reason: error };
        let mut ours: Value = serde_saphyr::from_str(yaml).map_err(|error| built_in(error.to_string()))?;
        ours["metadata"]["annotations"][SCHEMA] = OURS.to_string().into();
        let body = Json::of(&ours);
        match cluster.create(&path(""), &body).await {
            Err(status) if status.is_conflict() => update(cluster, name, &ours).await?,
            other => other.map(|_| ()).map_err(|source| InstallError::Refused { name, source })?,
        }
    }
    for (name, _) in api::crds::ALL {
        let established = tokio::time::timeout(ESTABLISH_TIMEOUT, wait_established(cluster, name));
        established.await.map_err(|_| InstallError::NotEstablished { name, after: ESTABLISH_TIMEOUT })?;
    }
    Ok(())
}

/// Writes ours over what the cluster has, if that is not newer.
async fn update(cluster: &Cluster, name: &'static str, ours: &Value) -> Result<(), InstallError> {
    let path = path(name);
    let refused = |source| InstallError::Refused { name, source };
    let existing: Value = cluster.get(&path).await.map_err(refused)?.parse().unwrap_or_default();
    match reconcile(&existing, ours).map_err(|source| InstallError::Incompatible { name, source })? {
        Action::Leave => {
            tracing::info!(name, "custom resource definition of a newer program left as it is");
            Ok(())
        }
        Action::Replace(definition) => {
            let patched = cluster.patch(&path, Merge::Json, definition.to_string()).await;
            patched.map(|_| ()).map_err(refused)
        }
    }
}

async fn wait_established(cluster: &Cluster, name: &str) {
    let path = path(name);
    loop {
        if cluster.get(&path).await.is_ok_and(|definition| is_established(&definition)) {
            return;
        }
        tokio::time::sleep(ESTABLISH_POLL).await;
    }
}

fn is_established(definition: &Json) -> bool {
    let Ok(definition) = definition.parse::<Value>() else { return false };
    let conditions = definition["status"]["conditions"].as_array();
    conditions.is_some_and(|list| {
        list.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
    })
}
