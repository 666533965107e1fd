//! Who owns which fields, and server-side apply, over the wire. The cases are those of Kubernetes' page "Server-Side Apply"
//! (kubernetes.io/docs/reference/using-api/server-side-apply); `apimachinery::fields` has the finer ones.

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who, config_map};
use crate::objects::definition;

const APPLY: &str = "application/apply-patch+yaml";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn apply(server: &Server, path: &str, manager: &str, body: &Value) -> (u16, Value) {
    let path = format!("{path}{}fieldManager={manager}", if path.contains('?') { "&" } else { "?" });
    server.call(Who::Admin, "PATCH", &path, APPLY, &body.to_string()).await
}

fn settings(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

/// (manager, operation, subresource) of each entry.
fn managers(object: &Value) -> Vec<(&str, &str, &str)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            (text("manager"), text("operation"), text("subresource"))
        })
        .collect()
}

fn deployment(replicas: i64, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test]
async fn what_is_applied_is_made_merged_and_removed_again() {
    let server = Server::start().await;
    let path = format!("{MAPS}/m");
    let (code, made) = apply(&server, &path, "one", &settings(json!({"a": "1", "b": "1"}))).await;
    assert_eq!((code, managers(&made)), (201, vec![("one", "Apply", "")]));
    let (code, both) = apply(&server, &path, "two", &settings(json!({"c": "1"}))).await;
    assert_eq!((code, &both["data"]), (200, &json!({"a": "1", "b": "1", "c": "1"})));
    let (_, less) = apply(&server, &path, "one", &settings(json!({"a": "1"}))).await;
    assert_eq!(less["data"], json!({"a": "1", "c": "1"}));
    assert_eq!(server.get(&path).await.1, less);
    server.stop().await;
}

#[tokio::test]
async fn a_conflict_names_fields_and_owners_and_force_takes_them() {
    let server = Server::start().await;
    let path = format!("{MAPS}/m");
    apply(&server, &path, "one", &settings(json!({"a": "1"}))).await;
    server.patch(&format!("{path}?fieldManager=two"), "merge-patch+json", &json!({"data": {"a": "2"}})).await;
    let (code, status) = apply(&server, &path, "one", &settings(json!({"a": "1"}))).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"two\" using v1", "field": ".data.a"}])
    );
    let forced = format!("{path}?force=true");
    let (code, taken) = apply(&server, &forced, "one", &settings(json!({"a": "1"}))).await;
    assert_eq!((code, &taken["data"]["a"], managers(&taken)), (200, &json!("1"), vec![("one", "Apply", "")]));
    server.stop().await;
}

#[tokio::test]
async fn a_change_of_nothing_is_not_stored() {
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut config = deployment(1, "i:1");
    // Written otherwise than it is stored.
    config["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"limits": {"memory": "0.5Gi", "cpu": 1}});
    let (_, made) = apply(&server, &path, "one", &config).await;
    let limits = &made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits, &json!({"memory": "512Mi", "cpu": "1"}));
    let (_, again) = apply(&server, &path, "one", &config).await;
    assert_eq!(again, made);
    let mut same = made.clone();
    same["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(server.put(&path, &same).await.1, made);
    assert_eq!(server.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 1}})).await.1, made);
    server.stop().await;
}

#[tokio::test]
async fn the_horizontal_scaler_gets_the_replicas_by_the_documented_ways() {
    // "Transferring ownership": the user leaves the field out once another has it.
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/web");
    apply(&server, &path, "user", &deployment(1, "i:1")).await;
    let scaler = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}});
    assert_eq!(apply(&server, &path, "scaler", &scaler).await.0, 200);
    let mut without = deployment(1, "i:1");
    without["spec"].as_object_mut().unwrap().remove("replicas");
    let (_, left) = apply(&server, &path, "user", &without).await;
    assert_eq!(left["spec"]["replicas"], 1);
    let mut more = scaler.clone();
    more["spec"]["replicas"] = json!(5);
    let (code, scaled) = apply(&server, &path, "scaler", &more).await;
    assert_eq!((code, &scaled["spec"]["replicas"]), (200, &json!(5)));
    assert_eq!(apply(&server, &path, "user", &deployment(1, "i:1")).await.0, 409);
    server.stop().await;
}

#[tokio::test]
async fn status_is_applied_through_its_subresource_alone() {
    let server = Server::start().await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    let path = "/apis/demo.io/v1/namespaces/default/things/t";
    let thing = |spec: Value, status: Value| json!({"apiVersion": "demo.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec, "status": status});
    let (code, made) = apply(&server, path, "user", &thing(json!({"n": 1}), json!({"seen": 9}))).await;
    assert_eq!((code, made.get("status")), (201, None));
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:n": {}}}));
    let told = json!({"apiVersion": "demo.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "status": {"seen": 1}});
    let (code, told) = apply(&server, &format!("{path}/status"), "controller", &told).await;
    assert_eq!((code, &told["status"], &told["spec"]["n"]), (200, &json!({"seen": 1}), &json!(1)));
    assert_eq!(managers(&told), [("controller", "Apply", "status"), ("user", "Apply", "")]);
    server.stop().await;
}

#[tokio::test]
async fn every_write_is_recorded_with_its_manager() {
    let server = Server::start().await;
    let path = format!("{MAPS}/m");
    let request = |method: &str, path: &str, agent: &str, kind: &str, body: Value| {
        let request = http::Request::builder().method(method).uri(path).header("user-agent", agent);
        request.header("content-type", kind).body(Full::from(body.to_string())).unwrap()
    };
    let made = request("POST", MAPS, "tool/v1.2 (linux)", "application/json", config_map("m"));
    assert_eq!(server.send(Who::Admin, made).await.status(), 201);
    let named = format!("{path}?fieldManager=other");
    let patch =
        request("PATCH", &named, "tool/v1.2", "application/merge-patch+json", json!({"data": {"x": "y"}}));
    let response = server.send(Who::Admin, patch).await;
    let body: Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let mut found = managers(&body);
    found.sort_unstable();
    assert_eq!(found, [("other", "Update", ""), ("tool", "Update", "")]);
    // Lists and partial objects have it too.
    let (_, list) = server.get(MAPS).await;
    let listed =
        list["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "m").unwrap();
    assert_eq!(managers(listed).len(), 2);
    // `managedFields: [{}]` drops the record, and it stays dropped until somebody applies.
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let (_, bare) = server.patch(&path, "merge-patch+json", &reset).await;
    assert_eq!(bare["metadata"].get("managedFields"), None);
    server.patch(&path, "merge-patch+json", &json!({"data": {"z": "1"}})).await;
    let (_, applied) = apply(&server, &path, "one", &settings(json!({"k": "v"}))).await;
    let mut found = managers(&applied);
    found.sort_unstable();
    assert_eq!(found, [("before-first-apply", "Update", ""), ("one", "Apply", "")]);
    server.stop().await;
}

#[tokio::test]
async fn defaults_are_the_makers_and_what_admission_adds_is_nobodys() {
    let server = Server::start().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = server.create("/api/v1/namespaces/default/pods?fieldManager=me", pod).await;
    let spec = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(spec["f:restartPolicy"], json!({}));
    assert!(made["spec"]["volumes"].is_array() && spec.get("f:volumes").is_none(), "{spec}");
    assert!(made["metadata"]["managedFields"][0]["fieldsV1"].get("f:status").is_none());
    server.stop().await;
}

#[tokio::test]
async fn applies_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let path = format!("{MAPS}/m");
    let body = settings(json!({"a": "1"}));
    let (code, status) = server.call(Who::Admin, "PATCH", &path, APPLY, &body.to_string()).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("fieldManager")));
    let forced = format!("{path}?force=true");
    let (code, _) = server.patch(&forced, "merge-patch+json", &json!({})).await;
    assert_eq!(code, 422);
    let mut other = body.clone();
    other["metadata"]["name"] = json!("n");
    assert_eq!(apply(&server, &path, "one", &other).await.0, 400);
    other = body.clone();
    other["apiVersion"] = json!("v2");
    assert_eq!(apply(&server, &path, "one", &other).await.0, 400);
    other = body.clone();
    other["metadata"]["managedFields"] = json!([]);
    assert_eq!(apply(&server, &path, "one", &other).await.0, 400);
    let (code, status) = apply(
        &server,
        &format!("{DEPLOYMENTS}/d"),
        "one",
        &json!({"apiVersion": "apps/v1",
        "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"foo": 1}}),
    )
    .await;
    assert_eq!(code, 500);
    assert_eq!(
        status["message"],
        "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
    );
    assert_eq!(server.get(&path).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn an_apply_is_yaml_and_may_be_tried_without_being_stored() {
    let server = Server::start().await;
    let path = format!("{DEPLOYMENTS}/web?fieldManager=one&dryRun=All");
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {a: b}}\n  \
        template:\n    metadata: {labels: {a: b}}\n    spec:\n      containers: [{name: c, image: i}]\n      \
        volumes: [{name: v, configMap: {name: m, defaultMode: 0644}}]\n";
    let (code, made) = server.call(Who::Admin, "PATCH", &path, APPLY, text).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["template"]["spec"]["volumes"][0]["configMap"]["defaultMode"], 420);
    assert_eq!(managers(&made), [("one", "Apply", "")]);
    assert_eq!(server.get(&format!("{DEPLOYMENTS}/web")).await.0, 404);
    server.stop().await;
}
