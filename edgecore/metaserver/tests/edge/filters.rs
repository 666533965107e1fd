//! What clients see through filters: in lists and watches, connected and cut off.

use message::{Request, Upstream};
use metaserver::Filter;
use serde_json::{Value, json};

use crate::client::{Lines, Who};
use crate::cloud::{Cloud, NODE};
use crate::node::Node;

const SERVICES: &str = "/api/v1/namespaces/shop/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// A cloud with two pools, a Service of two pods, and an account that reads Services and slices everywhere.
async fn cloud() -> std::sync::Arc<Cloud> {
    let cloud = Cloud::start().await;
    for (name, pool) in [(NODE, "near"), ("edge-2", "far")] {
        let labels = json!({ "apps.openyurt.io/nodepool": pool });
        cloud.create("/api/v1/nodes", json!({ "metadata": { "name": name, "labels": labels } })).await;
    }
    let ports = json!([{ "name": "http", "port": 80 }]);
    let service = |name: &str, annotations: Value, kind: &str| json!({ "metadata": { "name": name, "annotations": annotations }, "spec": { "ports": ports, "type": kind } });
    cloud.create(SERVICES, service("web", json!({}), "ClusterIP")).await;
    let discard = json!({ "svc.openyurt.io/discard": "true" });
    cloud.create(SERVICES, service("lb", discard, "LoadBalancer")).await;
    let endpoint = |pod: &str, node: &str, ip: &str| {
        json!({ "addresses": [ip], "nodeName": node, "conditions": { "ready": true, "serving": true },
            "targetRef": { "kind": "Pod", "namespace": "shop", "name": pod } })
    };
    let slice = json!({ "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }],
        "endpoints": [endpoint("here", NODE, "10.0.0.1"), endpoint("there", "edge-2", "10.0.0.2")] });
    cloud.create(SLICES, slice).await;
    let rules = json!([
        { "apiGroups": [""], "resources": ["services", "nodes"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"] }]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "proxy" }, "rules": rules });
    cloud.create(&format!("{rbac}/clusterroles"), role).await;
    let group = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
    let binding = json!({ "metadata": { "name": "proxy" }, "roleRef": group("ClusterRole", "proxy"),
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": "shop" }, group("Group", "system:nodes")] });
    cloud.create(&format!("{rbac}/clusterrolebindings"), binding).await;
    cloud
}

async fn annotate(cloud: &Cloud, path: &str, what: &str, values: Value) {
    let (code, mut object) = cloud.admin("GET", path, Value::Null).await;
    assert_eq!(code, 200);
    object["metadata"][what] = values;
    let (code, answer) = cloud.admin("PUT", path, object).await;
    assert_eq!(code, 200, "{answer}");
}

/// The pods of a slice.
fn pods(slice: &Value) -> Vec<&str> {
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    endpoints.map(|one| one["targetRef"]["name"].as_str().unwrap()).collect()
}

async fn next(lines: &mut Lines) -> (String, Value) {
    lines.next().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_annotation_of_their_service_and_the_pools_of_nodes() {
    let cloud = cloud().await;
    let mut node = Node::start(&cloud).await;
    node.again(|node| node.watch_services = true).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let (mut proxy, mut plain) = (
        node.watch_with("kube-proxy", &who, &format!("{SLICES}?watch=1")).await,
        node.watch(&who, &format!("{SLICES}?watch=1")).await,
    );
    assert_eq!(pods(&next(&mut proxy).await.1), ["here", "there"]);
    let (_, first) = next(&mut plain).await;
    annotate(
        &cloud,
        &format!("{SERVICES}/web"),
        "annotations",
        json!({ "openyurt.io/topologyKeys": "kubernetes.io/hostname" }),
    )
    .await;
    let (kind, slice) = next(&mut proxy).await;
    assert_eq!((kind.as_str(), pods(&slice)), ("MODIFIED", vec!["here"]));
    assert_eq!(
        slice["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"],
        "it has not changed"
    );
    let listed = node.get_with("kube-proxy", &who, SLICES).await;
    assert_eq!(pods(&listed["items"][0]), ["here"]);
    let listed = node.get_with("kube-proxy", &who, &format!("{SLICES}/web-1")).await;
    assert_eq!(pods(&listed), ["here"]);
    assert_eq!(
        pods(&node.get(&who, &format!("{SLICES}/web-1")).await.body),
        ["here", "there"],
        "not what is stored"
    );

    let pool = json!({ "openyurt.io/topologyKeys": "openyurt.io/nodepool" });
    annotate(&cloud, &format!("{SERVICES}/web"), "annotations", pool).await;
    annotate(&cloud, "/api/v1/nodes/edge-2", "labels", json!({ "apps.openyurt.io/nodepool": "near" })).await;
    let (kind, slice) = next(&mut proxy).await;
    assert_eq!(
        (kind.as_str(), pods(&slice)),
        ("MODIFIED", vec!["here", "there"]),
        "the other node came into the pool"
    );
    annotate(&cloud, "/api/v1/nodes/edge-2", "labels", json!({})).await;
    assert_eq!(pods(&next(&mut proxy).await.1), ["here"]);

    // The same after a start without the cloud, for who lists and for who goes on.
    cloud.cut();
    node.again(|_| ()).await;
    let listed = node.get_with("kube-proxy", &who, SLICES).await;
    assert_eq!(pods(&listed["items"][0]), ["here"]);
    let from = format!(
        "{SLICES}?watch=1&resourceVersion={}",
        listed["metadata"]["resourceVersion"].as_str().unwrap()
    );
    let mut again = node.watch_with("kube-proxy", &who, &from).await;
    let (kind, slice) = next(&mut again).await;
    assert_eq!((kind.as_str(), pods(&slice)), ("MODIFIED", vec!["here"]));
    // A change is filtered, and told once.
    let mut plain = node.watch(&who, &format!("{SLICES}?watch=1")).await;
    assert_eq!(plain.brief().await, "ADDED web-1");
    cloud.mend();
    annotate(&cloud, &format!("{SLICES}/web-1"), "annotations", json!({ "a": "b" })).await;
    for (lines, expected) in [(&mut again, vec!["here"]), (&mut plain, vec!["here", "there"])] {
        let (kind, slice) = next(lines).await;
        assert_eq!((kind.as_str(), pods(&slice)), ("MODIFIED", expected));
        assert_eq!(slice["metadata"]["annotations"]["a"], "b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_begins_to_hide_is_deleted_and_what_it_shows_again_added() {
    let cloud = cloud().await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let mut lines = node.watch_with("kube-proxy", &who, &format!("{SERVICES}?watch=1")).await;
    assert_eq!(lines.brief().await, "ADDED web", "the one of the cloud is hidden");
    let names = |listed: &Value| listed["items"].as_array().unwrap().len();
    assert_eq!(names(&node.get_with("kube-proxy", &who, SERVICES).await), 1);
    assert_eq!(names(&node.get_with("coredns", &who, SERVICES).await), 2);
    annotate(&cloud, &format!("{SERVICES}/lb"), "annotations", json!({})).await;
    assert_eq!(lines.brief().await, "ADDED lb");
    annotate(&cloud, &format!("{SERVICES}/lb"), "annotations", json!({ "svc.openyurt.io/discard": "true" }))
        .await;
    assert_eq!(lines.brief().await, "DELETED lb");
    let (code, _) = cloud.admin("DELETE", &format!("{SERVICES}/lb"), json!({})).await;
    assert_eq!(code, 200);
    annotate(&cloud, &format!("{SERVICES}/web"), "annotations", json!({ "a": "b" })).await;
    assert_eq!(lines.brief().await, "MODIFIED web", "nothing was told of what is hidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_off_hides_nothing() {
    let cloud = cloud().await;
    let mut node = Node::start(&cloud).await;
    node.again(|node| node.filters.off = [Filter::DiscardCloudService].into()).await;
    let token = cloud.token("reader");
    let listed = node.get_with("kube-proxy", &Who::Token(&token), SERVICES).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_dies_while_the_node_is_cut_off_leaves_the_service_on_the_node() {
    let cloud = cloud().await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let mut lines = node.watch(&Who::Token(&token), &format!("{SLICES}?watch=1")).await;
    assert_eq!(lines.brief().await, "ADDED web-1");
    cloud.cut();
    let report = |ready: &str| {
        let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
        let (namespace, name) = ("shop".to_owned(), "here".to_owned());
        Upstream::Ask(Request::PatchPodStatus { namespace, name, patch: status.to_string() })
    };
    for (told, expected) in [("False", false), ("True", true), ("False", false)] {
        node.outbox.submit(report(told)).await.unwrap();
        let (kind, slice) = next(&mut lines).await;
        assert_eq!(kind, "MODIFIED");
        let ready = |at: usize| slice["endpoints"][at]["conditions"]["ready"].clone();
        assert_eq!((ready(0), ready(1)), (json!(expected), json!(true)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_knows_services_for_the_environment_of_pods_also_after_a_start_without_the_cloud() {
    let cloud = cloud().await;
    let mut node = Node::start(&cloud).await;
    node.again(|node| node.watch_services = true).await;
    let known = |services: &metamanager::KnownServices| services.iter().any(|one| one.name == "web");
    let mut services = node.services.subscribe();
    let told = services.wait_for(known).await.unwrap().clone();
    let web = told.iter().find(|one| one.name == "web").unwrap();
    assert_eq!((web.namespace.as_str(), web.ports[0].port), ("shop", 80));
    cloud.cut();
    node.again(|node| drop(node.services.send_replace(Default::default()))).await;
    assert_eq!(*node.services.borrow(), told, "when it begins to serve");
}
