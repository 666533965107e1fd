//! APIServices of what this server serves itself (`kube-aggregator/pkg/controllers/autoregister`, `pkg/controlplane/apiserver/aggregator.go`).
//!
//! Those of built-in groups are made at each start, and may be deleted or changed meanwhile; those of definitions come and go with
//! them. Both have a label; one without it is somebody else's, and stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::Status;
use apimachinery::apiservice::{self, Availability, with_availability};
use apimachinery::object::{self, text};
use apimachinery::traits::Traits;
use kubeapi::registry::DEFINITIONS;
use kubeapi::stored::{ListQuery, Stored};
use kubeapi::target::Target;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::apiservices::SERVICES;
use crate::context::Context;
use crate::storage::{Change, WriteError};
use crate::verbs;
use crate::verbs::create::namespace::make;

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Its values: made at the start, and kept in step.
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";

/// The places of built-in groups, highest first, as kube-apiserver has them; the core group is empty.
const GROUPS: [(&str, i64); 21] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    // Metrics, as the manifest of metrics-server has it.
    ("metrics.k8s.io", 100),
    ("devices.kubeedge.io", 1000),
];
/// Those of definitions come after them, their versions in Kubernetes' order.
const CUSTOM: (i64, i64) = (1000, 100);

/// The priority of a version of a built-in group among its own.
fn of_version(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io", _) => 21,
        ("metrics.k8s.io", _) => 100,
        _ => 15,
    }
}

/// By name.
type Wanted = BTreeMap<String, Value>;

fn wanted(group: &str, version: &str, (of_group, of_version): (i64, i64), label: &str) -> (String, Value) {
    let mut spec =
        json!({ "version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version });
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    (apiservice::name(group, version), json!({ "metadata": { "labels": { LABEL: label } }, "spec": spec }))
}

fn of_built_in(context: &Context) -> Wanted {
    let resources = context.registry.resources();
    let kinds = resources.iter().filter(|resource| !resource.custom);
    let kinds =
        kinds.flat_map(|one| one.versions.iter().map(|version| (one.group.as_str(), version.name.as_str())));
    let answered = verbs::computed(context.nodes.reaches()).iter().map(|one| (one.group, one.version));
    let all = kinds.chain(answered).filter(|(group, _)| *group != apiservice::GROUP);
    all.map(|(group, version)| {
        let priority =
            GROUPS.iter().find(|(known, _)| *known == group).map_or(CUSTOM.0, |(_, priority)| *priority);
        wanted(group, version, (priority, of_version(group, version)), ON_START)
    })
    .collect()
}

fn of_definitions(context: &Context) -> Wanted {
    let resources = context.registry.resources();
    let custom = resources.iter().filter(|resource| resource.custom);
    let versions = custom.flat_map(|one| one.versions.iter().map(|version| (&one.group, &version.name)));
    versions.map(|(group, version)| wanted(group, version, CUSTOM, ALWAYS)).collect()
}

/// Makes those of built-in groups, as they are in this version of the server.
pub(crate) async fn at_start(context: &Context) -> Result<(), Status> {
    keep(context, &of_built_in(context), ON_START).await?;
    keep(context, &of_definitions(context), ALWAYS).await
}

/// Keeps those of definitions in step, until `stop`.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let [mut definitions, mut services] =
        [DEFINITIONS, SERVICES].map(|resource| context.storage.subscribe(Some(resource)));
    loop {
        if let Err(status) = keep(&context, &of_definitions(&context), ALWAYS).await {
            tracing::warn!(error = %status, "could not bring APIServices in step with the definitions of custom resources");
        }
        let heard = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            heard = definitions.recv() => heard,
            heard = services.recv() => heard,
        };
        if let Err(RecvError::Closed) = heard {
            return;
        }
    }
}

/// Brings those with this label in step with what is wanted.
async fn keep(context: &Context, wanted: &Wanted, label: &str) -> Result<(), Status> {
    let query = ListQuery { resource: SERVICES.to_owned(), ..ListQuery::default() };
    let stored = context.storage.list(query).await?.items;
    let served = context.registry.by_key(SERVICES).ok_or_else(Status::no_such_path)?;
    for one in &stored {
        let found = one.value()?;
        if object::deleting(&found) {
            continue;
        }
        let is_managed = found["metadata"]["labels"][LABEL] == label;
        match wanted.get(&one.key.name) {
            None if is_managed => change(context, one, found, None).await?,
            Some(wanted) if is_managed && found["spec"] != wanted["spec"] => {
                let value = json!({ "metadata": found["metadata"], "spec": wanted["spec"], "status": found["status"] });
                change(context, one, found, Some(value)).await?;
            }
            // One that names no other server any more.
            _ if found["spec"]["service"].is_null() && !is_local(&found) => {
                let mut value = found.clone();
                let now = daemon::clock::rfc3339(daemon::clock::now());
                value["status"] = with_availability(&found["status"], &Availability::local(), &now);
                change(context, one, found, Some(value)).await?;
            }
            _ => {}
        }
    }
    for (name, value) in wanted {
        if stored.iter().all(|one| one.key.name != *name) {
            let (namespace, subresource) = (String::new(), String::new());
            let target = Target { served: served.clone(), namespace, name: name.clone(), subresource };
            make(context, &target, value.clone()).await?;
        }
    }
    Ok(())
}

fn is_local(found: &Value) -> bool {
    let mut conditions = object::list(found, "/status/conditions").iter();
    conditions.any(|one| text(one, "/type") == apiservice::AVAILABLE && text(one, "/reason") == "Local")
}

/// Replaces one, or deletes it. Somebody else's change is an event of its own.
async fn change(
    context: &Context,
    stored: &Stored,
    found: Value,
    value: Option<Value>,
) -> Result<(), Status> {
    let previous = Traits::of(SERVICES, &found);
    let expected = stored.revision;
    let change = match value {
        Some(value) => Change::Update { value, expected, previous },
        None => Change::Delete { value: found, expected, previous },
    };
    match context.storage.commit(stored.key.clone(), change).await {
        Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(()),
        Err(WriteError::Store(status)) => Err(status),
    }
}
