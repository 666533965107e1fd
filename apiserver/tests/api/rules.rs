//! Rules in CEL: of custom resources (`x-kubernetes-validations`), of ValidatingAdmissionPolicies, and of webhooks.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who, config_map};
use crate::hook::{Hook, VALIDATING, configure};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GADGETS: &str = "/apis/example.com/v1/namespaces/default/gadgets";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

fn definition(spec: &Value) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": schema}}]}})
}

fn ruled(rule: &str) -> Value {
    definition(&json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}],
        "properties": {"n": {"type": "integer"}, "l": {"type": "array", "maxItems": 3000, "items": {"type": "integer"}}}}))
}

fn gadget(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn rules_hold_from_the_definition_that_has_them_to_the_next_and_after_a_restart() {
    let server = Server::start().await;
    server.create(DEFINITIONS, ruled("self.n < 5")).await;
    let (code, status) = server.post(GADGETS, &gadget("a", &json!({"n": 7}))).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("spec")), "{status}");
    server.create(GADGETS, gadget("a", &json!({"n": 4}))).await;
    let rule = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations/0/rule";
    let narrower = json!([{"op": "replace", "path": rule, "value": "self.n < 3"}]);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    assert_eq!(server.patch(&path, "json-patch+json", &narrower).await.0, 200);
    assert_eq!(server.post(GADGETS, &gadget("b", &json!({"n": 4}))).await.0, 422);
    let server = server.restart().await;
    assert_eq!(server.post(GADGETS, &gadget("b", &json!({"n": 4}))).await.0, 422);
    // What was wrong before and is not touched may stay.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let path = format!("{GADGETS}/a");
    assert_eq!(server.patch(&path, "merge-patch+json", &label).await.0, 200);
    let more = json!({"spec": {"n": 3}});
    assert_eq!(server.patch(&path, "merge-patch+json", &more).await.0, 422);
    server.stop().await;
}

#[tokio::test]
async fn a_definition_whose_rules_do_not_compile_is_refused_when_it_is_made_or_changed() {
    let server = Server::start().await;
    for (rule, told) in [
        ("self.nothing > 1", "undefined field 'nothing'"),
        ("self.n >", "compilation failed: ERROR"),
        (
            "self.l.all(a, self.l.all(b, self.l.all(c, a == b && b == c)))",
            "estimated rule cost exceeds budget",
        ),
    ] {
        let (code, status) = server.post(DEFINITIONS, &ruled(rule)).await;
        let message = status["message"].as_str().unwrap();
        assert!(code == 422 && message.contains(told), "{rule}: {status}");
    }
    server.create(DEFINITIONS, ruled("self.n > 1")).await;
    let rule = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations/0/rule";
    let broken = json!([{"op": "replace", "path": rule, "value": "self.other > 1"}]);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    let (code, status) = server.patch(&path, "json-patch+json", &broken).await;
    assert!(code == 422 && status["message"].as_str().unwrap().contains("compilation failed"), "{status}");
    server.stop().await;
}

#[tokio::test]
async fn rules_that_do_not_end_refuse_their_objects_and_hold_up_no_other_request() {
    let server = Server::start().await;
    server.create(DEFINITIONS, ruled("self.l.all(a, self.l.all(b, a + b >= 0)) || true")).await;
    let numbers: Vec<u32> = (0..3000).collect();
    let slow = gadget("slow", &json!({"l": numbers}));
    let others = async {
        for number in 0..50 {
            server.create(MAPS, config_map(&format!("m{number}"))).await;
        }
    };
    let slow = futures_util::future::join_all((0..6).map(|_| server.post(GADGETS, &slow)));
    let (answers, ()) = tokio::join!(slow, others);
    for (code, status) in answers {
        let message = status["message"].as_str().unwrap();
        let exceeds = message.contains("call cost exceeds limit for rule: self.l.all(a");
        let is_busy = message.contains("other rules run too long");
        assert!((code == 422 && exceeds) || (code == 500 && is_busy), "{status}");
    }
    assert_eq!(server.get(&format!("{GADGETS}/slow")).await.0, 404);
    server.create(GADGETS, gadget("quick", &json!({"l": [1, 2]}))).await;
    server.stop().await;
}

fn policy(spec: Value) -> Value {
    let mut all = json!({"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["*"], "resources": ["configmaps"]}]}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": all})
}

fn binding(spec: Value) -> Value {
    let mut all = json!({"policyName": "p", "validationActions": ["Deny"]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": all})
}

/// A rule about a resource of the core group.
fn of_core(operations: &[&str], resource: &str) -> Value {
    json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": [resource]})
}

async fn bind(server: &Server, spec: Value, bound: Value) {
    server.create(POLICIES, policy(spec)).await;
    server.create(BINDINGS, binding(bound)).await;
}

#[tokio::test]
async fn a_policy_counts_while_it_is_bound_and_for_every_write() {
    let server = Server::start().await;
    let expression =
        "request.operation == 'DELETE' ? oldObject.metadata.name != 'kept' : !has(object.data.bad)";
    server
        .create(POLICIES, policy(json!({"validations": [{"expression": expression, "reason": "Forbidden"}]})))
        .await;
    server.create(MAPS, config_map("kept")).await;
    let bad = json!({"data": {"bad": "x"}});
    let path = format!("{MAPS}/kept");
    assert_eq!(server.patch(&path, "merge-patch+json", &bad).await.0, 200, "it is not bound");
    let good = json!({"data": {"bad": null}});
    assert_eq!(server.patch(&path, "merge-patch+json", &good).await.0, 200);
    server.create(BINDINGS, binding(json!({}))).await;
    let (code, status) = server.patch(&path, "merge-patch+json", &bad).await;
    let told = format!(
        "configmaps \"kept\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: \
         failed expression: {expression}"
    );
    assert_eq!((code, &status["message"]), (403, &json!(told)));
    assert_eq!(server.delete(&path, &json!({})).await.0, 403);
    assert_eq!(server.delete(MAPS, &json!({})).await.0, 403, "a collection is its objects");
    let server = server.restart().await;
    assert_eq!(server.delete(&path, &json!({})).await.0, 403);
    assert_eq!(server.delete(&format!("{BINDINGS}/b"), &json!({})).await.0, 200);
    assert_eq!(server.delete(&path, &json!({})).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn bindings_narrow_a_policy_down_and_excluded_resources_are_left_alone() {
    let server = Server::start().await;
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["*"]}]);
    let mut names = of_core(&["*"], "configmaps");
    names["resourceNames"] = json!(["free"]);
    let constraints = json!({"resourceRules": rules, "excludeResourceRules": [names],
        "objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}});
    let narrower = json!({"matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}});
    bind(
        &server,
        json!({"matchConstraints": constraints, "validations": [{"expression": "false"}]}),
        narrower,
    )
    .await;
    assert_eq!(server.post(MAPS, &config_map("a")).await.0, 422);
    server.create(MAPS, config_map("free")).await;
    let mut skipped = config_map("skipped");
    skipped["metadata"]["labels"] = json!({"skip": "me"});
    server.create(MAPS, skipped).await;
    server.create("/api/v1/namespaces/kube-system/configmaps", config_map("a")).await;
    server.stop().await;
}

#[tokio::test]
async fn parameters_are_found_by_name_or_selector_and_their_lack_is_decided_by_the_binding() {
    let server = Server::start().await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [of_core(&["CREATE"], "secrets")]},
        "validations": [{"expression": "size(object.data) <= int(params.data.most)",
            "messageExpression": "'at most ' + params.data.most"}]});
    let selector = json!({"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"});
    bind(&server, spec, json!({"paramRef": selector})).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "", "b": ""}});
    let (code, status) = server.post(secrets, &secret).await;
    let message = status["message"].as_str().unwrap();
    assert!(
        code == 422
            && message.ends_with("no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{status}"
    );
    for (name, most) in [("wide", "5"), ("narrow", "1")] {
        server
            .create(
                MAPS,
                json!({"metadata": {"name": name, "labels": {"limit": "yes"}}, "data": {"most": most}}),
            )
            .await;
    }
    let (code, status) = server.post(secrets, &secret).await;
    assert!(
        code == 422 && status["message"].as_str().unwrap().ends_with("denied request: at most 1"),
        "{status}"
    );
    let reference =
        json!({"spec": {"paramRef": {"name": "none", "selector": null, "parameterNotFoundAction": "Allow"}}});
    let path = format!("{BINDINGS}/b");
    assert_eq!(server.patch(&path, "merge-patch+json", &reference).await.0, 200);
    server.create(secrets, secret).await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_binding_only_warns_of_and_audits_is_done_warned_of_and_written_down() {
    let server = Server::start_audited().await;
    let folder = server.folder.clone();
    let spec = json!({"validations": [{"expression": "false", "message": "no"}],
        "auditAnnotations": [{"key": "name", "valueExpression": "'it is ' + object.metadata.name"}]});
    bind(&server, spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let request = http::Request::post(MAPS).header("content-type", "application/json");
    let request = request.body(Full::from(Bytes::from(config_map("a").to_string()))).unwrap();
    let answer = server.send(Who::Admin, request).await;
    assert_eq!(answer.status(), 201);
    let told = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no\"";
    assert_eq!(answer.headers()["warning"], told);
    answer.into_body().collect().await.unwrap();
    server.stop().await;
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.into_iter().find(|line| line["objectRef"]["resource"] == "configmaps");
    let line = line.unwrap_or_else(|| panic!("the request is not in {text}"));
    let annotations = &line["annotations"];
    let failure = annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().unwrap();
    let failure: Value = serde_json::from_str(failure).unwrap();
    assert_eq!(
        failure,
        json!([{"message": "no", "policy": "p", "binding": "b", "expressionIndex": 0, "validationActions": ["Warn", "Audit"]}])
    );
    assert_eq!(annotations["p/name"], "it is a");
    assert_eq!(annotations["authorization.k8s.io/decision"], "allow");
}

#[tokio::test]
async fn policies_do_not_keep_anybody_from_mending_policies() {
    let server = Server::start().await;
    let all = json!({"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}]});
    bind(&server, json!({"matchConstraints": all, "validations": [{"expression": "false"}]}), json!({}))
        .await;
    assert_eq!(server.post(MAPS, &config_map("a")).await.0, 422);
    assert_eq!(server.delete(&format!("{POLICIES}/p"), &json!({})).await.0, 200);
    server.create(MAPS, config_map("a")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_webhook_is_asked_only_about_what_fulfils_its_conditions() {
    let (server, hook) = (Server::start().await, Hook::lenient().await);
    let condition = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    let one = hook.at(
        "some",
        "/",
        condition("object.metadata.name.startsWith('a') && request.userInfo.username != ''"),
    );
    configure(&server, VALIDATING, "some", &[one]).await;
    for name in ["a", "b", "a1"] {
        server.create(MAPS, config_map(name)).await;
    }
    let names: Vec<Value> = hook.asked().iter().map(|(_, asked)| asked["name"].clone()).collect();
    assert_eq!(names, ["a", "a1"]);
    let broken = hook.at("broken", "/", condition("object.data.nothing == 'a'"));
    configure(&server, VALIDATING, "broken", &[broken]).await;
    let (code, status) = server.post(MAPS, &config_map("c")).await;
    let message = status["message"].as_str().unwrap();
    assert!(code == 500 && message.contains("no such key: nothing"), "{status}");
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "x"}, "webhooks": [hook.at("x", "/", condition("object.."))]});
    let (code, status) = server.post(VALIDATING, &configuration).await;
    let field = "webhooks[0].matchConditions[0].expression";
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!(field)), "{status}");
    server.stop().await;
}
