//! Reading through a backend.

use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt as _;
use kubeapi::Settings;
use serde_json::{Value, json};

use crate::asking::{api, get, json, request, send, text};

const MAPS: &str = "/api/v1/namespaces/n/configmaps";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "labels": {"app": name}}, "data": {"k": "v"}})
}

#[tokio::test]
async fn objects_are_rendered_selected_and_tabled_for_any_backend() {
    let api = api(Settings::default());
    api.backend().put("configmaps", map("a"));
    api.backend().put("configmaps", map("b"));
    let one = json(get(&api, &format!("{MAPS}/a")).await).await;
    assert_eq!(
        (&one["kind"], &one["apiVersion"], &one["data"]["k"]),
        (&"ConfigMap".into(), &"v1".into(), &"v".into())
    );
    let list = json(get(&api, &format!("{MAPS}?labelSelector=app%3Db")).await).await;
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"ConfigMapList".into(), 1));
    let wanted = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = json(send(&api, request(Method::GET, MAPS).header("accept", wanted), "").await).await;
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(get(&api, &format!("{MAPS}/c")).await.status(), 404);
}

#[tokio::test]
async fn what_a_backend_does_not_serve_is_neither_found_nor_discovered() {
    let api = api(Settings::default());
    let core = json(get(&api, "/api/v1").await).await;
    let names: Vec<&str> =
        core["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"configmaps") && !names.contains(&"services"), "{names:?}");
    assert_eq!(get(&api, "/api/v1/services").await.status(), 404);
    assert_eq!(get(&api, "/apis/apps/v1/deployments").await.status(), 404);
    let groups = json(get(&api, "/apis").await).await;
    assert_eq!(groups["groups"][0]["name"], "test.example", "computed resources are discovered");
    let echo = send(&api, request(Method::POST, "/apis/test.example/v1/echoes"), "{\"said\":1}").await;
    assert_eq!(json(echo).await, json!({"said": 1}));
}

#[tokio::test]
async fn a_backends_note_is_a_warning_and_its_failure_is_told_as_it_is() {
    let api = api(Settings::default());
    let listed = get(&api, MAPS).await;
    assert_eq!(listed.headers()["warning"], "299 - \"this is how it was an hour ago\"");
    let failed = get(&api, "/api/v1/secrets").await;
    assert_eq!(failed.status(), 504);
    assert_eq!(json(failed).await["message"], "the cloud did not answer");
    let watched = get(&api, "/api/v1/secrets?watch=true").await;
    assert_eq!(watched.status(), 504, "a watch that begins with a list fails as the list does");
}

#[tokio::test]
async fn a_watch_begins_with_the_list_goes_on_with_changes_and_lets_go_when_its_client_leaves() {
    let api = api(Settings::default());
    api.backend().put("configmaps", map("a"));
    let mut body = get(&api, &format!("{MAPS}?watch=true")).await.into_body();
    let mut next = async || -> Value {
        serde_json::from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap()
    };
    assert_eq!(next().await["object"]["metadata"]["name"], "a");
    api.backend().put("configmaps", map("b"));
    let event = next().await;
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&"ADDED".into(), &"b".into()));
    assert_eq!(Arc::strong_count(&api.backend().watches), 2);
    drop(body);
    assert_eq!(Arc::strong_count(&api.backend().watches), 1);
    let expired = text(get(&api, &format!("{MAPS}?watch=true&resourceVersion=1")).await).await;
    assert!(expired.contains("\"code\":410"), "{expired}");
}

#[tokio::test]
async fn a_backend_is_told_which_version_was_named_and_which_list_begins_a_watch() {
    let api = api(Settings::default());
    for (path, expected) in [(MAPS.to_owned(), "false"), (format!("{MAPS}?watch=true"), "true")] {
        let answer = get(&api, &path).await;
        let warnings: Vec<_> = answer.headers().get_all("warning").iter().collect();
        assert_eq!(warnings[1], &format!("299 - \"v1 begins a watch: {expected}\""));
    }
}

#[tokio::test]
async fn a_backends_documents_come_before_what_the_catalogue_tells() {
    let api = api(Settings::default());
    assert_eq!(text(get(&api, "/apis/documented").await).await, "ann");
    assert_eq!(get(&api, "/apis/undocumented").await.status(), 404);
    let version = send(&api, http::Request::get("/version"), "").await;
    assert_eq!(text(version).await, "the backend's", "also for who shows nothing");
    assert_eq!(send(&api, http::Request::get("/apis/documented"), "").await.status(), 401);
}

#[tokio::test]
async fn who_shows_nothing_sees_health_only_and_who_may_not_is_told_so() {
    let api = api(Settings::default());
    let anonymous = |path: &str| http::Request::builder().method(Method::GET).uri(path);
    assert_eq!(send(&api, anonymous("/readyz"), "").await.status(), 200);
    assert_eq!(send(&api, anonymous(MAPS), "").await.status(), 401);
    let refused = http::Request::builder().method(Method::GET).uri(MAPS).header("x-user", "nobody");
    assert_eq!(send(&api, refused, "").await.status(), 403);
}
