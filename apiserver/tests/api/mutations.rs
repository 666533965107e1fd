//! MutatingAdmissionPolicies beside webhooks, and those that never end.

use serde_json::{Value, json};

use crate::client::{MAPS, Server, config_map};
use crate::hook::{Hook, MUTATING, configure, patched};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// Makes a policy for config maps, and binds it.
async fn bind(server: &Server, name: &str, expression: &str, more: Value) {
    let mut spec = json!({"reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    server.create(&format!("{GROUP}/mutatingadmissionpolicies"), policy).await;
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    server.create(&format!("{GROUP}/mutatingadmissionpolicybindings"), binding).await;
}

#[tokio::test]
async fn policies_come_before_webhooks_and_both_see_again_what_the_other_did() {
    let server = Server::start().await;
    let hook = Hook::start(|_, request| {
        let label = request["object"]["metadata"]["labels"]["seen"].as_str().unwrap_or_default();
        patched(&json!([{"op": "add", "path": "/data/hooked", "value": label}]))
    })
    .await;
    configure(&server, MUTATING, "a", &[hook.at("one", "/", json!({"reinvocationPolicy": "IfNeeded"}))])
        .await;
    let seen =
        "Object{metadata: Object.metadata{labels: {'seen': 'hooked' in object.data ? 'twice' : 'once'}}}";
    bind(&server, "again", seen, json!({"reinvocationPolicy": "IfNeeded"})).await;
    bind(
        &server,
        "never",
        "Object{data: Object.data{never: 'hooked' in object.data ? '2' : '1'}}",
        json!({}),
    )
    .await;
    let made = server.create(MAPS, config_map("a")).await;
    assert_eq!(made["metadata"]["labels"], json!({"seen": "twice"}));
    assert_eq!(made["data"], json!({"k": "v", "hooked": "twice", "never": "1"}));
    assert_eq!(hook.asked().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_policy_that_does_not_end_refuses_its_object_and_holds_up_no_other() {
    let server = Server::start().await;
    let numbers = "lists.range(1000)";
    let endless = format!(
        "Object{{data: Object.data{{n: string({numbers}.map(a, {numbers}.map(b, {numbers}.map(c, a + b + c))).size())}}}}"
    );
    bind(&server, "endless", &endless, json!({"failurePolicy": "Ignore"})).await;
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    assert_eq!(code, 500, "{status}");
    assert!(status["message"].as_str().unwrap().contains("did not end in time"), "{status}");
    let secret = json!({"metadata": {"name": "a"}});
    server.create("/api/v1/namespaces/default/secrets", secret).await;
    server.stop().await;
}
