//! Controllers on the server's own API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Server;

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "web:1"}]}}},
    })
}

const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:controller:replicaset-controller";

#[tokio::test]
async fn controllers_are_users_that_roles_give_their_rights() {
    let server = Server::start_whole().await;
    // Its owner may take rights away, which then are not mended.
    let off = json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []});
    assert_eq!(server.patch(ROLE, "merge-patch+json", &off).await.0, 200);
    let mut sets = server.watch("/apis/apps/v1/replicasets?watch=1").await;
    server.create("/apis/apps/v1/namespaces/default/deployments", deployment()).await;
    let wait = Duration::from_secs(30);
    let set = tokio::time::timeout(wait, sets.next()).await.unwrap().unwrap();
    assert_eq!(set["object"]["metadata"]["ownerReferences"][0]["name"], "web");
    let (_, pods) = server.get("/api/v1/pods").await;
    assert_eq!(pods["items"], json!([]));
    let mut pods = server.watch("/api/v1/pods?watch=1").await;
    let rules = json!({"rules": [
        {"verbs": ["*"], "apiGroups": [""], "resources": ["pods", "events"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["replicasets", "replicasets/status"]},
    ]});
    assert_eq!(server.patch(ROLE, "merge-patch+json", &rules).await.0, 200);
    for _ in 0..2 {
        let pod = tokio::time::timeout(wait, pods.next()).await.unwrap().unwrap();
        assert_eq!(pod["object"]["metadata"]["labels"]["app"], "web");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_workload_is_resized_by_its_scale() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    server.create(path, deployment()).await;
    let scale = format!("{path}/web/scale");
    let (code, told) = server.get(&scale).await;
    assert_eq!((code, &told["kind"], &told["spec"]["replicas"]), (200, &json!("Scale"), &json!(2)));
    let (code, told) = server.patch(&scale, "merge-patch+json", &json!({"spec": {"replicas": 5}})).await;
    assert_eq!((code, &told["spec"]["replicas"]), (200, &json!(5)));
    let mut stale = told.clone();
    stale["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(server.put(&scale, &stale).await.0, 409);
    let (_, found) = server.get(&format!("{path}/web")).await;
    assert_eq!((&found["spec"]["replicas"], &found["metadata"]["generation"]), (&json!(5), &json!(2)));
    server.stop().await;
}

#[tokio::test]
async fn an_autoscaler_is_stored() {
    let server = Server::start().await;
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let scaler = json!({"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3}});
    server.create(path, scaler).await;
    assert_eq!(server.get(&format!("{path}/web")).await.1["spec"]["maxReplicas"], 3);
    server.stop().await;
}

#[tokio::test]
async fn an_eviction_without_a_budget_left_is_refused() {
    let server = Server::start_whole().await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let mut events = server.watch(&format!("{budgets}?watch=1")).await;
    server.create(budgets, budget).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}});
    server.create(pods, pod).await;
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(server.patch(&format!("{pods}/p/status"), "merge-patch+json", &ready).await.0, 200);
    let counted = async { while events.next().await.unwrap()["object"]["status"]["currentHealthy"] != 1 {} };
    tokio::time::timeout(Duration::from_secs(30), counted).await.unwrap();
    let (code, told) = server.post(&format!("{pods}/p/eviction"), &json!({"metadata": {"name": "p"}})).await;
    assert_eq!((code, &told["details"]["causes"][0]["reason"]), (429, &json!("DisruptionBudget")), "{told}");
    assert_eq!(server.delete(&format!("{budgets}/b"), &Value::Null).await.0, 200);
    assert_eq!(server.post(&format!("{pods}/p/eviction"), &json!({"metadata": {"name": "p"}})).await.0, 201);
    server.stop().await;
}
