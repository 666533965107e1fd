//! Objects that exist from the start, and those that every namespace has.

use apimachinery::Status;
use serde_json::json;

use crate::context::Context;
use crate::storage::ListQuery;
use crate::verbs::create::namespace::{ensure, furnish};

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
