//! Watches.

use serde_json::{Value, json};

use crate::client::{MAPS, Server, config_map};

fn labelled(name: &str, value: &str) -> Value {
    let mut object = config_map(name);
    object["metadata"]["labels"] = json!({ "l": value });
    object
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_told_to() {
    let server = Server::start().await;
    let first = server.create(MAPS, config_map("a")).await;
    server.create(MAPS, config_map("b")).await;
    server.delete(&format!("{MAPS}/a"), &Value::Null).await;
    let since = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = server.watch(&format!("{MAPS}?watch=true&resourceVersion={since}")).await;
    assert_eq!(watch.expect().await, ("ADDED".into(), "b".into()));
    let deleted = watch.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["kind"]), (&json!("DELETED"), &json!("ConfigMap")));
    assert!(deleted["object"]["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]);
    server.create(MAPS, config_map("live")).await;
    assert_eq!(watch.expect().await, ("ADDED".into(), "live".into()));
    server.stop().await;
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_version_that_was_never_reached_is_expired() {
    let server = Server::start().await;
    let mut watch = server.watch(&format!("{MAPS}?watch=true&resourceVersion=999999")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert_eq!(watch.next().await, None);
    server.stop().await;
}

#[tokio::test]
async fn objects_enter_and_leave_a_selector() {
    let server = Server::start().await;
    server.create(MAPS, labelled("a", "in")).await;
    let mut watch = server.watch(&format!("{MAPS}?watch=true&labelSelector=l%3Din")).await;
    assert_eq!(watch.expect().await, ("ADDED".into(), "a".into()));
    server.create(MAPS, labelled("b", "out")).await;
    for (name, value) in [("a", "out"), ("b", "in"), ("b", "out")] {
        let patch = json!({"metadata": {"labels": {"l": value}}});
        server.patch(&format!("{MAPS}/{name}"), "merge-patch+json", &patch).await;
    }
    assert_eq!(watch.expect().await, ("DELETED".into(), "a".into()));
    assert_eq!(watch.expect().await, ("ADDED".into(), "b".into()));
    assert_eq!(watch.expect().await, ("DELETED".into(), "b".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_streaming_list_ends_with_its_bookmark() {
    let server = Server::start().await;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut watch = server.watch(&path).await;
    assert_eq!(watch.expect().await, ("ADDED".into(), "kube-root-ca.crt".into()));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up() {
    let server = Server::start().await;
    let mut watch =
        server.watch(&format!("{MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true")).await;
    assert_eq!(watch.expect().await.0, "ADDED");
    // One at the end of what was there, one before the watch ends.
    assert_eq!(watch.expect().await.0, "BOOKMARK");
    assert_eq!(watch.expect().await.0, "BOOKMARK");
    assert_eq!(watch.next().await, None);
    server.stop().await;
}

#[tokio::test]
async fn concurrent_writers_lose_no_update_and_a_watch_sees_each_version_in_order() {
    let server = std::sync::Arc::new(Server::start().await);
    let made = server.create(MAPS, json!({"metadata": {"name": "shared"}, "data": {}})).await;
    let since = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = server.watch(&format!("{MAPS}?watch=true&resourceVersion={since}")).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let server = server.clone();
            tokio::spawn(async move {
                let patch = json!({"data": {format!("w{writer}"): "x"}});
                let (code, _) = server.patch(&format!("{MAPS}/shared"), "merge-patch+json", &patch).await;
                assert_eq!(code, 200);
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut last = since.parse::<i64>().unwrap();
    for count in 1..=8 {
        let event = watch.next().await.unwrap();
        let version =
            event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<i64>().unwrap();
        assert!(version > last);
        last = version;
        assert_eq!(event["object"]["data"].as_object().unwrap().len(), count);
    }
}
