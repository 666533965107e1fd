//! Installs the custom resource definitions, leaving newer ones alone.

mod reconcile;

use std::time::Duration;

use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::Value;

use super::{Cluster, Merge};
pub(super) use reconcile::Incompatible;
use reconcile::{Action, reconcile, serves};

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("reading the built-in definition {name}: {reason}")]
    BuiltIn { name: &'static str, reason: String },
    #[error(
        "installing custom resource definition {name}; where CloudCore has no right to, apply the definitions (manifests/crds, the crds of the chart) before it starts"
    )]
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

/// Creates or updates every definition that is not as it should be, and waits until all are served. Safe to run in several
/// replicas at once. Where the definitions are applied by whoever installs CloudCore, the right to get them is enough.
pub async fn install_crds(cluster: &Cluster) -> Result<(), InstallError> {
    for (name, yaml) in api::crds::ALL {
        let built_in = |error: String| InstallError::BuiltIn { name, reason: error };
        let ours: Value = serde_saphyr::from_str(yaml).map_err(|error| built_in(error.to_string()))?;
        bring(cluster, name, &ours).await?;
    }
    for (name, _) in api::crds::ALL {
        let established = tokio::time::timeout(ESTABLISH_TIMEOUT, wait_established(cluster, name));
        established.await.map_err(|_| InstallError::NotEstablished { name, after: ESTABLISH_TIMEOUT })?;
    }
    Ok(())
}

/// Makes the definition, or writes ours over what the cluster has, if that is another and not newer.
async fn bring(cluster: &Cluster, name: &'static str, ours: &Value) -> Result<(), InstallError> {
    let refused = |source| InstallError::Refused { name, source };
    let mut existing = get(cluster, name).await.map_err(refused)?;
    if existing.is_none() {
        match cluster.create(&path(""), &Json::of(ours)).await {
            // Another replica was faster.
            Err(status) if status.is_conflict() => existing = get(cluster, name).await.map_err(refused)?,
            other => return other.map(|_| ()).map_err(refused),
        }
    }
    let existing = existing.unwrap_or_default();
    match reconcile(&existing, ours).map_err(|source| InstallError::Incompatible { name, source })? {
        Action::Keep => Ok(()),
        Action::Leave => {
            tracing::info!(name, "custom resource definition of a newer program left as it is");
            Ok(())
        }
        Action::Replace(definition) => {
            match cluster.patch(&path(name), Merge::Json, definition.to_string()).await {
                Err(status) if status.code == 403 && serves(&existing, ours) => {
                    tracing::warn!(name, error = %status, "custom resource definition of another version is used, and CloudCore may not change it: apply the definitions of this version");
                    Ok(())
                }
                other => other.map(|_| ()).map_err(refused),
            }
        }
    }
}

async fn get(cluster: &Cluster, name: &str) -> Result<Option<Value>, Status> {
    match cluster.get(&path(name)).await {
        Ok(definition) => Ok(Some(definition.parse().unwrap_or_default())),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;

    /// An API server that has these definitions and lets them be read. Notes what it is asked to write.
    fn cluster(has: impl Fn(Value) -> Option<Value>) -> (Cluster, Arc<Mutex<Vec<String>>>) {
        let definitions: Vec<(String, Value)> = api::crds::ALL
            .iter()
            .filter_map(|(name, yaml)| {
                let mut definition = has(serde_saphyr::from_str(yaml).unwrap())?;
                definition["status"]["conditions"] =
                    serde_json::json!([{"type": "Established", "status": "True"}]);
                Some((path(name), definition))
            })
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let writes = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let found = definitions.iter().find(|(path, _)| path == request.uri().path());
            let (status, text) = match found {
                Some((_, definition)) if request.method() == Method::GET => {
                    (StatusCode::OK, definition.to_string())
                }
                _ if request.method() == Method::GET => (StatusCode::NOT_FOUND, status(404)),
                _ => {
                    writes.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
                    (StatusCode::FORBIDDEN, status(403))
                }
            };
            let mut response = Response::new(Body::from(text.into_bytes()));
            *response.status_mut() = status;
            async move { Ok::<_, Infallible>(response) }
        });
        (Cluster::with_client(kube::Client::new(service, "default")), asked)
    }

    fn status(code: u16) -> String {
        format!(r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"x","message":"no"}}"#)
    }

    #[tokio::test(start_paused = true)]
    async fn definitions_that_were_applied_are_read_and_nothing_is_written() {
        let (cluster, writes) = cluster(|mut definition| {
            // As the API server fills it in.
            definition["spec"]["conversion"]["strategy"] = "None".into();
            Some(definition)
        });
        install_crds(&cluster).await.unwrap();
        assert_eq!(*writes.lock().unwrap(), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn older_definitions_are_used_where_they_may_not_be_changed() {
        let (cluster, writes) = cluster(|mut definition| {
            definition["metadata"].as_object_mut().unwrap().remove("annotations");
            Some(definition)
        });
        install_crds(&cluster).await.unwrap();
        assert_eq!(writes.lock().unwrap().len(), api::crds::ALL.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_definition_that_is_missing_and_may_not_be_made_is_an_error_that_says_what_to_do() {
        let (cluster, _) = cluster(|definition| {
            (definition["metadata"]["name"] != "devices.devices.kubeedge.io").then_some(definition)
        });
        let error = install_crds(&cluster).await.unwrap_err();
        let text = daemon::errors::describe(&error);
        assert!(
            text.contains("devices.devices.kubeedge.io") && text.contains("apply the definitions"),
            "{text}"
        );
    }
}
