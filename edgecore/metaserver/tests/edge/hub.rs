//! Hub form: a kubelet takes MetaServer for the API server, with the cloud and without.

use pki::Identity;
use serde_json::{Value, json};

use crate::client::{Told, Who};
use crate::cloud::{Cloud, NODE};
use crate::node::Node;

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const OWN: &str = "/api/v1/nodes/edge-1";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1";
const CSI: &str = "/apis/storage.k8s.io/v1/csinodes/edge-1";
const POD: &str = "/api/v1/namespaces/shop/pods/web";
const PODS: &str = "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dedge-1";
const EVENTS: &str = "/api/v1/namespaces/shop/events";

struct Hub {
    node: Node,
    own: Identity,
}

impl Hub {
    /// A kubelet that has registered its node and made its lease, and a pod that runs there and one that runs elsewhere.
    async fn start(cloud: &std::sync::Arc<Cloud>) -> Hub {
        let mut node = Node::start(cloud).await;
        node.again(|node| node.hub = true).await;
        let own = node.own();
        let hub = Hub { node, own };
        let object = json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": NODE } });
        let told = hub.write("POST", "/api/v1/nodes", JSON, object).await;
        assert_eq!(told.code, 201, "{}", told.body);
        assert_eq!(
            hub.write("PATCH", &format!("{OWN}/status"), STRATEGIC, ready("True", "10")).await.code,
            200
        );
        assert_eq!(hub.write("POST", LEASES, JSON, lease("", "1")).await.code, 201);
        assert_eq!(hub.node.get(&Who::Certificate(&hub.own), CSI).await.code, 404);
        let csi = json!({ "kind": "CSINode", "apiVersion": "storage.k8s.io/v1", "metadata": { "name": NODE }, "spec": { "drivers": [] } });
        assert_eq!(hub.write("POST", "/apis/storage.k8s.io/v1/csinodes", JSON, csi).await.code, 201);
        for (name, node) in [("web", NODE), ("other", "edge-2")] {
            let spec = json!({ "nodeName": node, "containers": [{ "name": "c", "image": "i" }] });
            cloud
                .create("/api/v1/namespaces/shop/pods", json!({ "metadata": { "name": name }, "spec": spec }))
                .await;
        }
        hub
    }

    async fn write(&self, method: &str, path: &str, media: &str, body: Value) -> Told {
        self.node.write(&Who::Certificate(&self.own), method, path, media, &body).await
    }

    async fn get(&self, path: &str) -> Value {
        let told = self.node.get(&Who::Certificate(&self.own), path).await;
        assert_eq!(told.code, 200, "{}", told.body);
        told.body
    }
}

fn ready(status: &str, time: &str) -> Value {
    json!({ "status": { "conditions": [{ "type": "Ready", "status": status, "lastHeartbeatTime": format!("2026-01-01T00:00:{time}Z") }] } })
}

fn lease(version: &str, second: &str) -> Value {
    json!({ "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": { "name": NODE, "namespace": "kube-node-lease", "resourceVersion": version },
        "spec": { "holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": format!("2026-01-01T00:00:0{second}.000000Z") } })
}

fn event(name: &str) -> Value {
    json!({ "kind": "Event", "apiVersion": "v1", "metadata": { "name": name, "namespace": "shop" }, "reason": "Killing", "type": "Normal",
        "involvedObject": { "kind": "Pod", "name": "web", "namespace": "shop" }, "count": 1 })
}

fn is_queued(told: &Told) {
    assert!(told.warnings.iter().any(|warning| warning.contains("this write waits")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kubelet_writes_while_cut_off_is_seen_here_outlives_a_restart_and_reaches_the_cloud() {
    let cloud = Cloud::start().await;
    let mut hub = Hub::start(&cloud).await;
    let mut pods = hub.node.watch(&Who::Certificate(&hub.own), PODS).await;
    assert_eq!(pods.brief().await, "ADDED web");
    let version = hub.get(LEASE).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    hub.get(OWN).await;

    cloud.cut();
    for (code, method, path, media, body) in [
        (200, "PATCH", format!("{OWN}/status"), STRATEGIC, ready("False", "20")),
        (200, "PATCH", format!("{OWN}/status"), STRATEGIC, ready("True", "30")),
        (200, "PUT", LEASE.to_owned(), JSON, lease(&version, "2")),
        (200, "PUT", LEASE.to_owned(), JSON, lease(&version, "3")),
        (200, "PATCH", format!("{POD}/status"), STRATEGIC, ready("False", "40")),
        (201, "POST", EVENTS.to_owned(), JSON, event("web.1")),
        (200, "PATCH", format!("{EVENTS}/web.1"), MERGE, json!({ "count": 2 })),
    ] {
        let told = hub.write(method, &path, media, body).await;
        assert_eq!(told.code, code, "{path}: {}", told.body);
        is_queued(&told);
    }
    let (kind, seen) = pods.next().await.unwrap();
    assert_eq!((kind.as_str(), &seen["status"]["conditions"][0]["status"]), ("MODIFIED", &json!("False")));
    for restarted in [false, true] {
        if restarted {
            hub.node.again(|_| ()).await;
        }
        let own = hub.get(OWN).await;
        assert_eq!(own["status"]["conditions"][0]["lastHeartbeatTime"], "2026-01-01T00:00:30Z");
        assert_eq!(hub.get(LEASE).await["spec"]["renewTime"], lease("", "3")["spec"]["renewTime"]);
        let listed = hub.get(&PODS.replace("watch=1&", "")).await;
        assert_eq!(listed["items"][0]["status"]["conditions"][0]["status"], "False");
        assert_eq!(hub.get(CSI).await["metadata"]["name"], NODE, "it was made here and never read");
        let again = hub.write("POST", "/api/v1/nodes", JSON, json!({ "metadata": { "name": NODE } })).await;
        assert_eq!(
            (again.code, &again.body["reason"]),
            (409, &json!("AlreadyExists")),
            "a kubelet that starts goes on"
        );
    }
    let before = cloud.count("/status");
    cloud.mend();
    while cloud.admin("GET", &format!("{EVENTS}/web.1"), Value::Null).await.1["count"] != 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cloud.count("/status"), before + 2, "one status of the node, one of the pod");
    let (_, told) = cloud.admin("GET", OWN, Value::Null).await;
    assert_eq!(told["status"]["conditions"][0]["lastHeartbeatTime"], "2026-01-01T00:00:30Z");
    let (_, told) = cloud.admin("GET", LEASE, Value::Null).await;
    assert_eq!(told["spec"]["renewTime"], lease("", "3")["spec"]["renewTime"]);
    let (_, told) = cloud.admin("GET", POD, Value::Null).await;
    assert_eq!(told["status"]["conditions"][0]["status"], "False");
    assert!(cloud.askers("/status").iter().all(|user| user == "system:node:edge-1"));
    // Nothing waits any more: what is written goes there at once.
    let told = hub.write("PATCH", &format!("{OWN}/status"), STRATEGIC, ready("True", "50")).await;
    assert_eq!((told.code, told.warnings.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_declared_or_not_the_nodes_own_is_refused_while_cut_off() {
    let cloud = Cloud::start().await;
    let mut hub = Hub::start(&cloud).await;
    hub.get(POD).await;
    let (token, fields) = (cloud.token("reader"), "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1");
    hub.get(fields).await;
    assert_eq!(hub.node.get(&Who::Token(&token), EVENTS).await.code, 200);
    cloud.cut();
    let created = event("e");
    for (method, path, media, body) in [
        ("PATCH", "/api/v1/nodes/edge-2/status", STRATEGIC, ready("True", "20")),
        ("PATCH", "/api/v1/namespaces/shop/pods/other/status", STRATEGIC, ready("True", "20")),
        ("PATCH", OWN, MERGE, json!({ "metadata": { "labels": { "a": "b" } } })),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-2",
            JSON,
            lease("", "1"),
        ),
        ("PATCH", "/api/v1/namespaces/shop/events/unknown", MERGE, json!({ "count": 2 })),
        ("POST", "/api/v1/namespaces/shop/events?dryRun=All", JSON, created.clone()),
        ("DELETE", POD, JSON, json!({})),
    ] {
        let told = hub.write(method, path, media, body).await;
        assert_eq!(
            (told.code, &told.body["reason"]),
            (503, &json!("ServiceUnavailable")),
            "{path}: {}",
            told.body
        );
    }
    let of_account = hub.node.write(&Who::Token(&token), "POST", EVENTS, JSON, &created).await;
    assert_eq!(of_account.code, 403, "the account made none before");
    hub.node.again(|node| node.hub = false).await;
    let told = hub.write("PATCH", &format!("{OWN}/status"), STRATEGIC, ready("True", "20")).await;
    assert_eq!(told.code, 503, "nothing is declared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_cloud_refuses_later_is_dropped_and_those_after_it_are_carried_out() {
    let cloud = Cloud::start().await;
    let hub = Hub::start(&cloud).await;
    let version = hub.get(LEASE).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    hub.get(OWN).await;
    cloud.cut();
    assert_eq!(hub.write("PUT", LEASE, JSON, lease(&version, "2")).await.code, 200);
    assert_eq!(hub.write("PATCH", &format!("{OWN}/status"), STRATEGIC, ready("False", "20")).await.code, 200);
    // Meanwhile another one renews it in the cloud.
    let (code, _) = cloud.admin("PUT", LEASE, lease(&version, "7")).await;
    assert_eq!(code, 200);
    cloud.mend();
    loop {
        let (_, told) = cloud.admin("GET", OWN, Value::Null).await;
        if told["status"]["conditions"][0]["status"] == "False" {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (_, told) = cloud.admin("GET", LEASE, Value::Null).await;
    assert_eq!(told["spec"]["renewTime"], lease("", "7")["spec"]["renewTime"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_starts_while_cut_off_gets_the_last_token_that_the_cloud_gave_for_it() {
    let cloud = Cloud::start().await;
    let mut hub = Hub::start(&cloud).await;
    cloud.create("/api/v1/namespaces/shop/serviceaccounts", json!({ "metadata": { "name": "web" } })).await;
    let (_, pod) = cloud.admin("GET", POD, Value::Null).await;
    let path = "/api/v1/namespaces/shop/serviceaccounts/web/token";
    let asked = |seconds: u32| {
        json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": { "expirationSeconds": seconds,
            "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "web", "uid": pod["metadata"]["uid"] } } })
    };
    let first = hub.write("POST", path, JSON, asked(3607)).await;
    assert_eq!(first.code, 201, "{}", first.body);
    cloud.cut();
    hub.node.again(|_| ()).await;
    let again = hub.write("POST", path, JSON, asked(3607)).await;
    assert_eq!((again.code, &again.body["status"]["token"]), (201, &first.body["status"]["token"]));
    assert!(again.warnings[0].contains("last token"), "{:?}", again.warnings);
    assert_eq!(hub.write("POST", path, JSON, asked(7200)).await.code, 503, "it was never asked for this one");
    let text = std::fs::read(hub.node.folder.path().join("metaserver.db")).unwrap();
    let wal = std::fs::read(hub.node.folder.path().join("metaserver.db-wal")).unwrap_or_default();
    let token = first.body["status"]["token"].as_str().unwrap().as_bytes().to_vec();
    let is_there = |text: &[u8]| text.windows(40).any(|part| part == &token[..40]);
    assert!(!is_there(&text) && !is_there(&wal), "it is sealed on the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_without_tls_is_the_nodes_and_no_browsers() {
    let cloud = Cloud::start().await;
    let hub = Hub::start(&cloud).await;
    let here = ("host", "127.0.0.1:10261");
    let (code, node) = hub.node.plain("GET", OWN, &[here]).await;
    assert_eq!((code, &node["metadata"]["name"]), (200, &json!(NODE)));
    assert_eq!(cloud.askers(OWN).pop().unwrap(), "system:node:edge-1");
    for headers in [
        vec![("host", "evil.example")],
        vec![],
        vec![here, ("origin", "http://evil.example")],
        vec![here, ("authorization", "Bearer forged")],
    ] {
        assert_eq!(hub.node.plain("GET", OWN, &headers).await.0, 401, "{headers:?}");
    }
    let other = [here, ("impersonate-user", "system:admin")];
    assert_eq!(hub.node.plain("GET", OWN, &other).await.0, 403);
    let token = cloud.token("reader");
    let bearer = format!("Bearer {token}");
    let (code, _) = hub.node.plain("GET", OWN, &[here, ("authorization", &bearer)]).await;
    assert_eq!(code, 403, "who shows a token is who the token says");
}
