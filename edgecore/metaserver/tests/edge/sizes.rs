//! Objects of all sizes reach clients as the API server has them, to the byte, through each filter.

use serde_json::{Value, json};

use crate::client::{Lines, Who};
use crate::cloud::{Cloud, NODE};
use crate::node::Node;

/// In KB. A proxy of YurtHub's age cut events of more than 32 KB.
const SIZES: [usize; 7] = [31, 32, 33, 64, 256, 1024, 1500];
/// Most that Kubernetes takes in a config map, in KB.
const CONFIG_MAP: usize = 1000;

/// A kind that a filter is about: where its objects are, one of them, and the components that see it through filters.
struct Kind {
    path: &'static str,
    components: &'static [&'static str],
    make: fn(&str, usize) -> Value,
}

const KINDS: [Kind; 5] = [
    Kind {
        path: "/api/v1/namespaces/shop/configmaps",
        components: &["kubelet"],
        make: |name, size| json!({ "metadata": { "name": name }, "data": { "k": "x".repeat(size) } }),
    },
    Kind {
        path: "/api/v1/namespaces/shop/services",
        components: &["kubelet", "kube-proxy"],
        make: |name, size| json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }], "externalIPs": addresses(size) } }),
    },
    Kind {
        path: "/api/v1/namespaces/shop/pods",
        components: &["kubelet"],
        make: |name, size| {
            let variable = json!({ "name": "TEXT", "value": "x".repeat(size) });
            let container = json!({ "name": "c", "image": "i", "env": [variable] });
            json!({ "metadata": { "name": name }, "spec": { "nodeName": NODE, "containers": [container] } })
        },
    },
    Kind {
        path: "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        components: &["kube-proxy", "coredns"],
        make: |name, size| {
            let endpoints: Vec<Value> =
                addresses(size).chunks(100).map(|some| json!({ "addresses": some })).collect();
            json!({ "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "web" } }, "addressType": "IPv4",
                "ports": [{ "name": "http", "port": 80 }], "endpoints": endpoints })
        },
    },
    Kind {
        path: "/apis/x.io/v1/namespaces/shop/valves",
        components: &[],
        make: |name, size| json!({ "apiVersion": "x.io/v1", "kind": "Valve", "metadata": { "name": name }, "spec": { "text": "x".repeat(size) } }),
    },
];

/// Addresses that are as JSON of about `size` bytes.
fn addresses(size: usize) -> Vec<String> {
    let one = |at: usize| format!("10.{}.{}.{}", 100 + at / 10_000, 100 + at / 100 % 100, 100 + at % 100);
    (0..size / "\"10.100.100.100\",".len()).map(one).collect()
}

async fn everything_is_allowed(cloud: &Cloud) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let role =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" });
    let subject = json!({ "kind": "ServiceAccount", "name": "reader", "namespace": "shop" });
    cloud
        .create(rbac, json!({ "metadata": { "name": "all" }, "roleRef": role, "subjects": [subject] }))
        .await;
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": { "text": { "type": "string" } } } } });
    let version =
        json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let names = json!({ "plural": "valves", "singular": "valve", "kind": "Valve", "listKind": "ValveList" });
    let definition = json!({ "metadata": { "name": "valves.x.io" },
        "spec": { "group": "x.io", "scope": "Namespaced", "names": names, "versions": [version] } });
    cloud.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    while cloud.admin("GET", "/apis/x.io/v1/namespaces/shop/valves", Value::Null).await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

/// The next event of an object of this test.
async fn told(lines: &mut Lines, name: &str) -> (String, Value) {
    loop {
        let (kind, object) = lines.next().await.unwrap();
        if object["metadata"]["name"] == name {
            return (kind, object);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_any_size_are_as_the_api_server_has_them_through_each_filter() {
    let cloud = Cloud::start().await;
    everything_is_allowed(&cloud).await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    for Kind { path, components, make } in KINDS {
        let agents: Vec<&str> = components.iter().copied().chain(["test"]).collect();
        let mut watches = Vec::new();
        for agent in &agents {
            watches.push(node.watch_with(agent, &who, &format!("{path}?watch=1")).await);
        }
        for size in SIZES {
            let most = if path.ends_with("/configmaps") { CONFIG_MAP } else { size };
            let name = format!("size-{size}");
            cloud.create(path, make(&name, size.min(most) * 1000)).await;
            let one = format!("{path}/{name}");
            let expected = cloud.raw(&one).await;
            assert!(expected.len() >= size.min(most) * 990, "{one} has {} bytes", expected.len());
            let same: Value = serde_json::from_slice(&expected).unwrap();
            for (agent, lines) in agents.iter().zip(&mut watches) {
                let (kind, object) = told(lines, &name).await;
                assert!(kind == "ADDED" && object == same, "{agent}: {one} is told otherwise");
                assert!(node.raw_with(agent, &who, &one).await == expected, "{agent}: {one} is another");
            }
        }
        // Cut off, the same again.
        cloud.cut();
        for (size, agent) in SIZES.iter().flat_map(|size| agents.iter().map(move |agent| (size, agent))) {
            let one = format!("{path}/size-{size}");
            assert!(
                node.raw_with(agent, &who, &one).await == cloud.raw(&one).await,
                "{agent}: {one}, cut off"
            );
        }
        cloud.mend();
    }
}
