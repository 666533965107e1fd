//! Custom resources in a version that a webhook makes out of the stored one.

use serde_json::{Value, json};

use crate::client::Server;
use crate::hook::{Hook, Said};

const GROUP: &str = "shop.example";

/// `v1` has `spec.full`, `v2` has `spec.first` and `spec.last`.
fn convert(request: &Value) -> Value {
    let desired = request["desiredAPIVersion"].clone();
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = object["spec"].clone();
        object["spec"] = match text(&desired).ends_with("v1") {
            true => json!({"full": format!("{} {}", text(&spec["first"]), text(&spec["last"]))}),
            false => {
                let full = text(&spec["full"]);
                let (first, last) = full.split_once(' ').unwrap();
                json!({"first": first, "last": last, "unknown": "pruned"})
            }
        };
        object["apiVersion"] = desired.clone();
        object
    });
    json!({"convertedObjects": objects.collect::<Vec<_>>(), "result": {"status": "Success"}})
}

fn definition(hook: &Hook) -> Value {
    let version = |name: &str, storage: bool, fields: Value, rule: &str| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": fields, "x-kubernetes-validations": [{"rule": rule}]}}}}})
    };
    let text = json!({"type": "string"});
    json!({"metadata": {"name": format!("people.{GROUP}")}, "spec": {"group": GROUP, "scope": "Namespaced",
        "names": {"plural": "people", "kind": "Person"},
        "versions": [version("v1", false, json!({"full": text}), "self.full != 'No One'"),
            version("v2", true, json!({"first": text, "last": text}), "self.first != 'Nemo'")],
        "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://{}/convert", hook.address), "caBundle": hook.ca}}}}})
}

fn people(version: &str) -> String {
    format!("/apis/{GROUP}/{version}/namespaces/default/people")
}

fn person(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/{version}"), "kind": "Person", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_are_read_written_listed_and_watched_in_either_version() {
    let server = Server::start().await;
    let hook = Hook::start(|_, request| Said::Response(convert(request))).await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(&hook)).await;
    let mut watch = server.watch(&format!("{}?watch=true", people("v1"))).await;
    let made = server.create(&people("v1"), person("v1", "a", json!({"full": "Ada Lovelace"}))).await;
    assert_eq!(made["spec"], json!({"full": "Ada Lovelace"}));
    let (_, read) = server.get(&format!("{}/a", people("v2"))).await;
    assert_eq!(read["spec"], json!({"first": "Ada", "last": "Lovelace"}));
    assert_eq!((&read["apiVersion"], read.get("$version")), (&json!(format!("{GROUP}/v2")), None));
    let (code, changed) = server
        .patch(&format!("{}/a", people("v1")), "merge-patch+json", &json!({"spec": {"full": "Ada King"}}))
        .await;
    assert_eq!((code, &changed["spec"]["full"]), (200, &json!("Ada King")));
    server.create(&people("v2"), person("v2", "b", json!({"first": "Alan", "last": "Turing"}))).await;
    let (_, list) = server.get(&people("v1")).await;
    let full: Vec<&Value> =
        list["items"].as_array().unwrap().iter().map(|item| &item["spec"]["full"]).collect();
    assert_eq!(full, [&json!("Ada King"), &json!("Alan Turing")]);
    for wanted in ["Ada Lovelace", "Ada King", "Alan Turing"] {
        let event = watch.next().await.unwrap();
        assert_eq!(event["object"]["spec"], json!({"full": wanted}), "{event}");
        assert_eq!(event["object"]["apiVersion"], format!("{GROUP}/v1"));
    }
    // Each version has rules of its own.
    assert_eq!(server.post(&people("v1"), &person("v1", "c", json!({"full": "No One"}))).await.0, 422);
    assert_eq!(server.post(&people("v1"), &person("v1", "c", json!({"full": "Nemo Captain"}))).await.0, 201);
    let (code, _) = server.delete(&format!("{}/a", people("v1")), &Value::Null).await;
    assert_eq!(code, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_webhook_that_fails_or_meddles_keeps_its_objects_from_being_read() {
    let server = Server::start().await;
    let hook = Hook::start(|_, request| {
        let mut answer = convert(request);
        match request["objects"][0]["metadata"]["name"].as_str().unwrap() {
            "failed" => answer = json!({"result": {"status": "Failure", "message": "cannot say"}}),
            "renamed" => answer["convertedObjects"][0]["metadata"]["name"] = json!("other"),
            "lost" => answer["convertedObjects"] = json!([]),
            _ => return Said::Text(500, "broken".to_owned()),
        }
        Said::Response(answer)
    })
    .await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(&hook)).await;
    for (name, why) in [
        ("failed", "failed: cannot say"),
        ("renamed", "metadata.name must not be changed"),
        ("lost", "returned 0 objects, expected 1"),
        ("broken", "the webhook answered 500"),
    ] {
        server.create(&people("v2"), person("v2", name, json!({"first": "A", "last": "B"}))).await;
        let (code, status) = server.get(&format!("{}/{name}", people("v1"))).await;
        let said = status["message"].as_str().unwrap();
        assert!(code == 500 && said.contains(why), "{said}");
        let head = format!("conversion webhook for {GROUP}/v2, Kind=Person");
        assert!(said.contains(&head), "{said}");
        assert_eq!(server.get(&format!("{}/{name}", people("v2"))).await.0, 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn who_changes_an_object_in_another_version_takes_the_fields_of_that_version() {
    let server = Server::start().await;
    let hook = Hook::start(|_, request| Said::Response(convert(request))).await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(&hook)).await;
    let made = person("v1", "a", json!({"full": "Ada Lovelace"}));
    let (code, made) =
        server.patch(&format!("{}/a?fieldManager=one", people("v1")), "apply-patch+yaml", &made).await;
    assert_eq!((code, &made["spec"]["full"]), (201, &json!("Ada Lovelace")), "{made}");
    let owners = |object: &Value| -> Vec<(String, Value)> {
        let record = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let owner = |entry: &Value| {
            let (manager, version) =
                (entry["manager"].as_str().unwrap(), entry["apiVersion"].as_str().unwrap());
            (format!("{manager} {version}"), entry["fieldsV1"]["f:spec"].clone())
        };
        record.iter().map(owner).collect()
    };
    assert_eq!(owners(&made), [("one shop.example/v1".to_owned(), json!({"f:full": {}}))]);
    let path = format!("{}/a?fieldManager=two", people("v2"));
    let (code, labelled) =
        server.patch(&path, "merge-patch+json", &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(code, 200, "{labelled}");
    assert!(
        owners(&labelled).contains(&("one shop.example/v1".to_owned(), json!({"f:full": {}}))),
        "{labelled}"
    );
    let (code, changed) = server.patch(&path, "merge-patch+json", &json!({"spec": {"last": "King"}})).await;
    assert_eq!(code, 200, "{changed}");
    let found = owners(&changed);
    assert!(found.contains(&("two shop.example/v2".to_owned(), json!({"f:last": {}}))), "{found:?}");
    assert!(!found.iter().any(|(owner, fields)| owner.starts_with("one") && !fields.is_null()), "{found:?}");
}
