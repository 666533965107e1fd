//! Objects that exist from the start, and those that every namespace has.

use apimachinery::traits::Traits;
use apimachinery::{Status, flow, object, rbac};
use kubeapi::stored::{Key, ListQuery, Stored};
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;
use crate::storage::Change;
use crate::verbs::create::namespace::{ensure, furnish, make};
use crate::{aggregation, aggregator, keys};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing of the default objects.
pub(crate) async fn defaults(context: &Context, port: u16, proxy_ca: &str) -> Result<(), Status> {
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
    range(context).await?;
    flows(context).await?;
    roles(context).await?;
    authentication(context, proxy_ca).await?;
    aggregation::registering::at_start(context).await
}

/// How servers behind this one know who asks: the CAs of clients, and of this server as it hands requests on, and the right to read
/// that.
async fn authentication(context: &Context, proxy_ca: &str) -> Result<(), Status> {
    const SYSTEM: &str = "kube-system";
    const NAME: &str = "extension-apiserver-authentication";
    const READER: &str = "extension-apiserver-authentication-reader";
    let texts = |texts: &[&str]| json!(texts).to_string();
    let data = json!({
        "client-ca-file": context.ca_pem,
        "requestheader-allowed-names": texts(&[keys::PROXY_CLIENT]),
        "requestheader-client-ca-file": proxy_ca,
        "requestheader-extra-headers-prefix": texts(&["X-Remote-Extra-"]),
        "requestheader-group-headers": texts(&["X-Remote-Group"]),
        "requestheader-uid-headers": texts(&["X-Remote-Uid"]),
        "requestheader-username-headers": texts(&["X-Remote-User"]),
    });
    ensure(context, "configmaps", SYSTEM, NAME, json!({ "data": data })).await?;
    let key = Key::new("configmaps", SYSTEM, NAME);
    if let Some(stored) = context.storage.get(&key).await? {
        let found = stored.value()?;
        if found["data"] != data {
            let served = context.registry.find("", "v1", "configmaps").ok_or_else(Status::no_such_path)?;
            let target = Target {
                served,
                namespace: SYSTEM.to_owned(),
                name: NAME.to_owned(),
                subresource: String::new(),
            };
            let mut value = found.clone();
            value["data"] = data;
            replace(context, &target, (&stored, &found), value).await?;
        }
    }
    let rule = json!({ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get", "list", "watch"] });
    let user = |name: &str| json!({ "apiGroup": rbac::GROUP, "kind": "User", "name": name });
    let reference = json!({ "apiGroup": rbac::GROUP, "kind": "Role", "name": READER });
    let subjects = json!([user("system:kube-controller-manager"), user("system:kube-scheduler")]);
    for (plural, name, value) in [
        ("roles", READER.to_owned(), json!({ "rules": [rule] })),
        ("rolebindings", format!("system::{READER}"), json!({ "roleRef": reference, "subjects": subjects })),
    ] {
        let served = context.registry.find(rbac::GROUP, "v1", plural).ok_or_else(Status::no_such_path)?;
        let target = Target { served, namespace: SYSTEM.to_owned(), name, subresource: String::new() };
        make(context, &target, value).await?;
    }
    Ok(())
}

/// The range of services' addresses, as this server was told it.
async fn range(context: &Context) -> Result<(), Status> {
    let served =
        context.registry.find("networking.k8s.io", "v1", "servicecidrs").ok_or_else(Status::no_such_path)?;
    let name = "kubernetes".to_owned();
    let target = Target { served, namespace: String::new(), name, subresource: String::new() };
    let spec = json!({ "cidrs": [context.addresses.range().to_string()] });
    make(context, &target, json!({ "spec": spec })).await?;
    let Some(stored) = context.storage.get(&target.key()).await? else { return Ok(()) };
    let found = stored.value()?;
    let is_ready =
        object::list(&found, "/status/conditions").iter().any(|condition| condition["type"] == "Ready");
    if is_ready && found["spec"] == spec {
        return Ok(());
    }
    let mut value = found.clone();
    value["spec"] = spec;
    let now = daemon::clock::rfc3339(daemon::clock::now());
    value["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": now }] });
    replace(context, &target, (&stored, &found), value).await
}

/// The flow schemas and priority levels that every cluster has. They are told of and kept, and limit nothing here.
async fn flows(context: &Context) -> Result<(), Status> {
    let schemas = flow::schemas().into_iter().map(|(name, spec)| ("flowschemas", name, spec));
    let levels = flow::levels().into_iter().map(|(name, spec)| ("prioritylevelconfigurations", name, spec));
    for (plural, name, spec) in levels.chain(schemas) {
        let served = context.registry.find(flow::GROUP, "v1", plural).ok_or_else(Status::no_such_path)?;
        let target =
            Target { served, namespace: String::new(), name: name.to_owned(), subresource: String::new() };
        let metadata = json!({ "annotations": { "apf.kubernetes.io/autoupdate-spec": "true" } });
        make(context, &target, json!({ "metadata": metadata, "spec": spec })).await?;
    }
    Ok(())
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
        replace(context, &target, (&stored, &found), value).await?;
    }
    aggregator::aggregate(context).await
}

/// Puts `value` in place of what is stored, which says `found`.
async fn replace(
    context: &Context,
    target: &Target,
    (stored, found): (&Stored, &Value),
    value: Value,
) -> Result<(), Status> {
    let previous = Traits::of(&stored.key.resource, found);
    let change = Change::Update { value, expected: stored.revision, previous };
    let outcome = context.storage.commit(stored.key.clone(), change).await;
    outcome.map(|_| ()).map_err(|error| error.into_status(&target.served.resource, &target.name))
}
