//! Objects that exist from the start, and those that every namespace has.

use apimachinery::traits::Traits;
use apimachinery::{Status, object, rbac};
use kubeapi::stored::ListQuery;
use kubeapi::target::Target;
use serde_json::json;

use crate::aggregator;
use crate::context::Context;
use crate::storage::Change;
use crate::verbs::create::namespace::{ensure, furnish, make};

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
    let first = context.addresses.first();
    let service = json!({
        "metadata": { "labels": { "component": "apiserver", "provider": "kubernetes" } },
        "spec": {
            "type": "ClusterIP", "clusterIP": first, "clusterIPs": [first], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
        },
    });
    ensure(context, "services", "default", "kubernetes", service).await?;
    roles(context).await
}

/// The default roles and bindings, with what a newer version has added to them.
async fn roles(context: &Context) -> Result<(), Status> {
    for (plural, wanted) in rbac::defaults::objects() {
        let served = context.registry.find(rbac::GROUP, "v1", plural).ok_or_else(Status::no_such_path)?;
        let name = object::name(&wanted).to_owned();
        let target = Target { served, namespace: String::new(), name, subresource: String::new() };
        let Some(stored) = context.storage.get(&target.key()).await? else {
            make(context, &target, wanted).await?;
            continue;
        };
        let found = stored.value()?;
        let Some(value) = rbac::defaults::mended(&found, &wanted) else { continue };
        let previous = Traits::of(&stored.key.resource, &found);
        let change = Change::Update { value, expected: stored.revision, previous };
        let resource = target.served.resource.clone();
        context
            .storage
            .commit(stored.key, change)
            .await
            .map_err(|error| error.into_status(&resource, &target.name))?;
    }
    aggregator::aggregate(context).await
}
