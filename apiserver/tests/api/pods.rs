//! Pods: defaults, immutability, graceful deletion.

use serde_json::{Value, json};

use crate::client::Server;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, node: &str) -> Value {
    let mut pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "a", "image": "busybox"}]}});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

#[tokio::test]
async fn a_pod_on_a_node_stays_until_the_node_lets_it_go() {
    let server = Server::start().await;
    let made = server.create(PODS, pod("p", "edge-1")).await;
    let path = format!("{PODS}/p");
    let (_, first) = server.delete(&path, &Value::Null).await;
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 30);
    let (_, longer) = server.delete(&path, &json!({"gracePeriodSeconds": 60})).await;
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let (_, shorter) = server.delete(&path, &json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "another"}});
    assert_eq!(server.delete(&path, &wrong).await.0, 409);
    let right = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}});
    assert_eq!(server.delete(&path, &right).await.1["kind"], "Pod");
    assert_eq!(server.get(&path).await.0, 404);
    server.create(PODS, pod("unbound", "")).await;
    assert_eq!(server.delete(&format!("{PODS}/unbound"), &Value::Null).await.1["kind"], "Pod");
    server.stop().await;
}

/// kubectl reads a subresource before it patches it.
#[tokio::test]
async fn ephemeral_containers_are_read_and_added_through_their_subresource() {
    let server = Server::start().await;
    server.create(PODS, pod("p", "edge-1")).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    assert_eq!(server.get(&path).await.1["metadata"]["name"], "p");
    let guest = json!({"spec": {"ephemeralContainers": [{"name": "guest", "image": "busybox"}]}});
    assert_eq!(server.patch(&path, "strategic-merge-patch+json", &guest).await.0, 200);
    assert_eq!(server.get(&path).await.1["spec"]["ephemeralContainers"][0]["name"], "guest");
    server.stop().await;
}

#[tokio::test]
async fn a_pod_is_bound_once_and_its_spec_stays_as_it_is() {
    let server = Server::start().await;
    let made = server.create(PODS, pod("p", "")).await;
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert!(made["spec"]["volumes"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let binding = json!({"target": {"kind": "Node", "name": "edge-1"}});
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding).await.0, 201);
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding).await.0, 409);
    let path = format!("{PODS}/p");
    let image = json!({"spec": {"containers": [{"name": "a", "image": "busybox:2"}]}});
    assert_eq!(server.patch(&path, "strategic-merge-patch+json", &image).await.0, 200);
    let host = json!({"spec": {"hostNetwork": true}});
    assert_eq!(server.patch(&path, "merge-patch+json", &host).await.0, 422);
    let (_, listed) = server.get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dedge-1")).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.get(&format!("{PODS}?fieldSelector=spec.nope%3D1")).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_broken_manifest_is_refused_whole() {
    let server = Server::start().await;
    let mut bad = pod("bad", "");
    bad["spec"]["containers"] = json!([{"name": "a"}, {"name": "a", "image": "x", "volumeMounts": [{"name": "no", "mountPath": "/m"}]}]);
    let (code, status) = server.post(PODS, &bad).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
    let fields: Vec<&str> = status["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|cause| cause["field"].as_str())
        .collect();
    assert_eq!(
        fields,
        ["spec.containers[0].image", "spec.containers[1].name", "spec.containers[1].volumeMounts[0].name"]
    );
    assert_eq!(server.get(&format!("{PODS}/bad")).await.0, 404);
    for nonsense in
        [json!([]), json!("x"), json!({"metadata": {"name": "x"}, "spec": 3}), json!({"metadata": 7})]
    {
        let (code, _) = server.post(PODS, &nonsense).await;
        assert!((400..500).contains(&code), "{nonsense}: {code}");
    }
    server.stop().await;
}
