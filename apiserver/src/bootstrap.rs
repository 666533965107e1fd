//! Objects that exist from the start, and those that every namespace has.

use apimachinery::Status;
use serde_json::{Value, json};

use crate::context::Context;
use crate::dispatch::Target;
use crate::storage::ListQuery;
use crate::verbs::create;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing of the default objects.
pub(crate) async fn defaults(context: &Context, port: u16) -> Result<(), Status> {
    for name in NAMESPACES {
        ensure(context, "namespaces", "", name, json!({})).await?;
    }
    // One whose creation was cut short may lack its contents.
    let all = ListQuery { resource: "namespaces".to_owned(), ..ListQuery::default() };
    for namespace in context.storage.list(all).await?.items {
        let value = namespace.value()?;
        if !apimachinery::object::deleting(&value) {
            furnish(context, &namespace.key.name).await?;
        }
    }
    let service = json!({
        "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
        },
    });
    ensure(context, "services", "default", "kubernetes", service).await
}

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

async fn ensure(
    context: &Context,
    plural: &str,
    namespace: &str,
    name: &str,
    mut value: Value,
) -> Result<(), Status> {
    let served = context.registry.find("", "v1", plural).ok_or_else(Status::no_such_path)?;
    let target =
        Target { served, namespace: namespace.to_owned(), name: name.to_owned(), subresource: String::new() };
    if context.storage.get(&target.key()).await?.is_some() {
        return Ok(());
    }
    value["metadata"]["name"] = json!(name);
    match Box::pin(create::insert(context, &target, value, false, false)).await {
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}
