//! What every namespace has.

use apimachinery::Status;
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;
use crate::verbs::ownership::Ownership;

/// Creates what every namespace has: the default service account and the CA certificate.
pub(crate) async fn furnish(context: &Context, namespace: &str) -> Result<(), Status> {
    ensure(context, "serviceaccounts", namespace, "default", json!({})).await?;
    let ca = json!({
        "metadata": { "annotations": { "kubernetes.io/description":
            "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
             the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
             Kubernetes clusters." } },
        "data": { "ca.crt": context.ca_pem },
    });
    ensure(context, "configmaps", namespace, "kube-root-ca.crt", ca).await
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
