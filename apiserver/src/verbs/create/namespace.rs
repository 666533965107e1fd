//! What every namespace has.

use apimachinery::traits::Traits;
use apimachinery::{Status, object};
use kubeapi::stored::{Event, EventKind, Key};
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;
use crate::namespaces::State;
use crate::storage::{Change, WriteError};
use crate::verbs::ownership::Ownership;

/// Creates what every namespace has: the default service account and the CA certificate.
pub(crate) async fn furnish(context: &Context, namespace: &str) -> Result<(), Status> {
    ensure(context, "serviceaccounts", namespace, ACCOUNT, json!({})).await?;
    ensure(context, "configmaps", namespace, ROOT_CA, root_ca(context)).await
}

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

fn root_ca(context: &Context) -> Value {
    json!({
        "metadata": { "annotations": { "kubernetes.io/description":
            "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
             the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
             Kubernetes clusters." } },
        "data": { "ca.crt": context.ca_pem },
    })
}

/// Brings back what a namespace has to have, if this event is of its end, or of a change of the CA's certificate.
pub(crate) async fn restore(context: &Context, event: &Event) -> Result<(), Status> {
    let Key { resource, namespace, name } = &event.stored.key;
    let is_gone = event.kind == EventKind::Deleted;
    match (resource.as_str(), name.as_str()) {
        ("serviceaccounts", ACCOUNT) if is_gone => {}
        ("configmaps", ROOT_CA) if is_gone => {}
        ("configmaps", ROOT_CA) => {
            let wanted = root_ca(context);
            let Some(stored) = context.storage.get(&event.stored.key).await? else { return Ok(()) };
            let mut value = stored.value()?;
            if value["data"] == wanted["data"] || object::deleting(&value) {
                return Ok(());
            }
            let previous = Traits::of(resource, &value);
            value["data"] = wanted["data"].clone();
            let change = Change::Update { value, expected: stored.revision, previous };
            return match context.storage.commit(stored.key, change).await {
                Err(WriteError::Store(status)) => Err(status),
                // Changed meanwhile: there is an event of that as well.
                Ok(_) | Err(WriteError::Stale | WriteError::Missing | WriteError::Exists) => Ok(()),
            };
        }
        _ => return Ok(()),
    }
    match context.namespaces.state(namespace) {
        State::Live => furnish(context, namespace).await,
        State::Missing | State::Terminating => Ok(()),
    }
}

/// Creates the object of the core group unless there is one of its name.
pub(crate) async fn ensure(
    context: &Context,
    plural: &str,
    namespace: &str,
    name: &str,
    value: Value,
) -> Result<(), Status> {
    let served = context.registry.find("", "v1", plural).ok_or_else(Status::no_such_path)?;
    let target =
        Target { served, namespace: namespace.to_owned(), name: name.to_owned(), subresource: String::new() };
    make(context, &target, value).await
}

/// Creates the object of this name unless there is one.
pub(crate) async fn make(context: &Context, target: &Target, mut value: Value) -> Result<(), Status> {
    if context.storage.get(&target.key()).await?.is_some() {
        return Ok(());
    }
    value["metadata"]["name"] = json!(target.name);
    let ownership = Ownership::of_server(target);
    match Box::pin(super::insert(context, target, value, &ownership, None)).await {
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}
