//! What happens to stored objects.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who, config_map};

fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_stale_update_conflicts_and_an_unchanged_one_keeps_the_version() {
    let server = Server::start().await;
    let first = server.create(MAPS, config_map("a")).await;
    let path = format!("{MAPS}/a");
    let (code, same) = server.put(&path, &first).await;
    assert_eq!((code, version(&same)), (200, version(&first)));
    let mut changed = first.clone();
    changed["data"]["k"] = json!("w");
    let (code, second) = server.put(&path, &changed).await;
    assert_eq!(code, 200);
    assert!(version(&second) > version(&first));
    let (code, status) = server.put(&path, &changed).await;
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));
    assert_eq!(status["details"], json!({ "name": "a", "kind": "configmaps" }));
    let (code, status) = server.post(MAPS, &config_map("a")).await;
    assert_eq!((code, &status["reason"]), (409, &json!("AlreadyExists")));
    let (code, status) = server.get(&format!("{MAPS}/none")).await;
    assert_eq!((code, &status["reason"], &status["kind"]), (404, &json!("NotFound"), &json!("Status")));
    let (_, status) = server.patch(&path, "merge-patch+json", &json!({"metadata": {"uid": "other"}})).await;
    assert_eq!(status["reason"], "Invalid");
    let current = server.get(&path).await.1["metadata"]["resourceVersion"].clone();
    let guarded = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": current},
        {"op": "replace", "path": "/data/k", "value": "guarded"}]);
    assert_eq!(server.patch(&path, "json-patch+json", &guarded).await.0, 200);
    assert_eq!(server.patch(&path, "json-patch+json", &guarded).await.0, 422);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "z"}});
    assert_eq!(server.patch(&path, "merge-patch+json", &stale).await.0, 409);
    server.stop().await;
}

#[tokio::test]
async fn objects_survive_a_restart_and_definitions_are_served_again() {
    let server = Server::start().await;
    server.create(MAPS, config_map("kept")).await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    server.create("/apis/demo.io/v1/namespaces/default/things", thing("t")).await;
    let server = server.restart().await;
    assert_eq!(server.get(&format!("{MAPS}/kept")).await.0, 200);
    assert_eq!(
        server.get("/apis/demo.io/v1beta1/namespaces/default/things/t").await.1["apiVersion"],
        "demo.io/v1beta1"
    );
    server.stop().await;
}

pub(crate) fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "format": "int64"}, "m": {"type": "string", "default": "d"}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.demo.io"},
        "spec": {"group": "demo.io", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}},
            {"name": "v1beta1", "served": true, "storage": false, "schema": schema}]}})
}

fn thing(name: &str) -> Value {
    json!({"apiVersion": "demo.io/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"n": 1, "junk": true}})
}

#[tokio::test]
async fn custom_resources_are_pruned_defaulted_checked_and_counted() {
    let server = Server::start().await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    let things = "/apis/demo.io/v1/namespaces/default/things";
    let made = server.create(things, thing("t")).await;
    assert_eq!(made["spec"], json!({"n": 1, "m": "d"}));
    let path = format!("{things}/t");
    let (_, status) = server.patch(&path, "merge-patch+json", &json!({"spec": {"n": "x"}})).await;
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["field"]),
        (&json!("Invalid"), &json!("spec.n"))
    );
    let (_, ignored) = server.patch(&path, "merge-patch+json", &json!({"status": {"a": 1}})).await;
    assert_eq!((&ignored["metadata"]["generation"], ignored.get("status")), (&json!(1), None));
    let (_, told) = server
        .patch(&format!("{path}/status"), "merge-patch+json", &json!({"status": {"a": 1}, "spec": {"n": 9}}))
        .await;
    assert_eq!(
        (&told["metadata"]["generation"], &told["status"]["a"], &told["spec"]["n"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let (_, grown) = server
        .patch(&path, "json-patch+json", &json!([{"op": "replace", "path": "/spec/n", "value": 2}]))
        .await;
    assert_eq!((&grown["metadata"]["generation"], &grown["status"]["a"]), (&json!(2), &json!(1)));
    let (code, _) = server.patch(&path, "strategic-merge-patch+json", &json!({})).await;
    assert_eq!(code, 415);
    let (code, status) = server.post(&format!("{things}?fieldValidation=Strict"), &thing("u")).await;
    assert_eq!(code, 400, "{status}");
    server.stop().await;
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let server = Server::start().await;
    let mut held = config_map("held");
    held["metadata"]["finalizers"] = json!(["demo.io/hold"]);
    server.create(MAPS, held).await;
    let path = format!("{MAPS}/held");
    let (code, pending) = server.delete(&path, &Value::Null).await;
    assert_eq!(code, 200);
    assert!(pending["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["demo.io/hold", "demo.io/more"]}});
    assert_eq!(server.patch(&path, "merge-patch+json", &more).await.0, 422);
    assert_eq!(
        server.patch(&path, "merge-patch+json", &json!({"metadata": {"finalizers": null}})).await.0,
        200
    );
    assert_eq!(server.get(&path).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn preconditions_protect_from_deleting_another_object() {
    let server = Server::start().await;
    let made = server.create(MAPS, config_map("a")).await;
    let path = format!("{MAPS}/a");
    let wrong = json!({"preconditions": {"uid": "other"}});
    assert_eq!(server.delete(&path, &wrong).await.0, 409);
    let right = json!({"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}});
    assert_eq!(server.delete(&path, &right).await.1["status"], "Success");
    server.stop().await;
}

#[tokio::test]
async fn pages_show_every_object_once() {
    let server = Server::start().await;
    let mut names: Vec<String> = (0..7).map(|at| format!("page-{at}")).collect();
    for name in &names {
        server.create(MAPS, config_map(name)).await;
    }
    names.push("kube-root-ca.crt".to_owned());
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let (code, page) = server.get(&format!("{MAPS}?limit=3&continue={token}")).await;
        assert_eq!(code, 200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3 && items.iter().all(|item| item.get("kind").is_none()));
        seen.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    seen.sort();
    names.sort();
    assert_eq!(seen, names);
    assert_eq!(server.get(&format!("{MAPS}?continue=nonsense")).await.0, 400);
    assert_eq!(server.get(&format!("{MAPS}?resourceVersion=999999")).await.0, 504);
    server.stop().await;
}

#[tokio::test]
async fn dry_runs_answer_and_store_nothing() {
    let server = Server::start().await;
    assert_eq!(server.post(&format!("{MAPS}?dryRun=All"), &config_map("dry")).await.0, 201);
    assert_eq!(server.get(&format!("{MAPS}/dry")).await.0, 404);
    server.create(MAPS, config_map("dry")).await;
    assert_eq!(server.delete(&format!("{MAPS}/dry?dryRun=All"), &Value::Null).await.0, 200);
    assert_eq!(server.get(&format!("{MAPS}/dry")).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn dependents_follow_their_owner_and_a_namespace_takes_its_contents_along() {
    let server = Server::start().await;
    let owner = server.create(MAPS, config_map("owner")).await;
    let mut dependent = config_map("dependent");
    dependent["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    let dependent = server.create(MAPS, dependent).await;
    let since = dependent["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = server.watch(&format!("{MAPS}?watch=1&resourceVersion={since}")).await;
    server.delete(&format!("{MAPS}/owner"), &Value::Null).await;
    assert_eq!(watch.expect().await, ("DELETED".into(), "owner".into()));
    assert_eq!(watch.expect().await, ("DELETED".into(), "dependent".into()));

    let made = server.create("/api/v1/namespaces", json!({"metadata": {"name": "doomed"}})).await;
    let since = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = server.watch(&format!("/api/v1/namespaces?watch=1&resourceVersion={since}")).await;
    server.create("/api/v1/namespaces/doomed/configmaps", config_map("in")).await;
    let (_, ending) = server.delete("/api/v1/namespaces/doomed", &Value::Null).await;
    assert_eq!(ending["status"]["phase"], "Terminating");
    assert_eq!(watch.expect().await, ("MODIFIED".into(), "doomed".into()));
    assert_eq!(watch.expect().await, ("DELETED".into(), "doomed".into()));
    assert_eq!(server.get("/api/v1/namespaces/doomed/configmaps").await.1["items"], json!([]));
    assert_eq!(server.delete("/api/v1/namespaces/kube-system", &Value::Null).await.0, 403);
    server.stop().await;
}

#[tokio::test]
async fn an_event_shows_in_both_its_groups() {
    let server = Server::start().await;
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "hello",
        "regarding": {"kind": "Pod", "name": "p"}, "reason": "R", "type": "Normal", "action": "A", "reportingController": "c", "reportingInstance": "c-1",
        "eventTime": "2026-01-01T00:00:00.000000Z"});
    server.create(new, event).await;
    let path = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp";
    assert_eq!(server.get(path).await.1["items"][0]["message"], "hello");
    server.patch(&format!("{new}/e"), "merge-patch+json", &json!({"note": "again"})).await;
    let (_, listed) = server.get(&format!("{new}?fieldSelector=regarding.name%3Dp")).await;
    assert_eq!(listed["items"][0]["note"], "again");
    assert_eq!(listed["items"][0].get("message"), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_that_patches_one_object_nobody_fails_and_nothing_is_lost() {
    let server = std::sync::Arc::new(Server::start().await);
    server.create(MAPS, config_map("a")).await;
    let write = |worker: usize| {
        let server = server.clone();
        tokio::spawn(async move {
            for at in 0..5 {
                let patch = json!({"data": {format!("w{worker}"): at.to_string()}});
                let (code, status) = server.patch(&format!("{MAPS}/a"), "merge-patch+json", &patch).await;
                assert_eq!(code, 200, "{status}");
            }
        })
    };
    for writer in (0..50).map(write).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let (_, object) = server.get(&format!("{MAPS}/a")).await;
    let written = object["data"].as_object().unwrap().iter().filter(|(key, _)| key.starts_with('w'));
    assert!(written.clone().all(|(_, value)| value == "4"));
    assert_eq!(written.count(), 50);
}

#[tokio::test]
async fn a_long_list_is_of_one_state_while_everything_changes() {
    let server = Server::start().await;
    let map = |at: usize, state: &str| {
        let mut map = config_map(&format!("long-{at}"));
        map["metadata"]["labels"] = json!({"of": "list"});
        map["data"] = json!({"state": state, "filler": "x".repeat(500_000)});
        map
    };
    for at in 0..24 {
        server.create(MAPS, map(at, "old")).await;
    }
    let path = format!("{MAPS}?labelSelector=of%3Dlist");
    let request = http::Request::get(&path).body(Full::<Bytes>::default()).unwrap();
    let mut body = server.send(Who::Admin, request).await.into_body();
    let mut text = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    for at in 0..24 {
        let path = format!("{MAPS}/long-{at}");
        match at % 3 {
            0 => assert_eq!(server.delete(&path, &Value::Null).await.0, 200),
            _ => assert_eq!(server.put(&path, &map(at, "new")).await.0, 200),
        }
    }
    server.create(MAPS, map(99, "new")).await;
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    let list: Value = serde_json::from_slice(&text).unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), list["metadata"].get("continue")), (24, None));
    assert!(items.iter().all(|item| item["data"]["state"] == "old"));
    let (_, list) = server.get(&path).await;
    let items = list["items"].as_array().unwrap();
    assert!(items.len() == 17 && items.iter().all(|item| item["data"]["state"] == "new"));
    server.stop().await;
}
