//! The audit log.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who};

#[tokio::test]
async fn who_asked_as_whom_for_what_is_in_a_private_file_when_the_server_has_stopped() {
    let server = Server::start_audited().await;
    let folder = server.folder.clone();
    let made =
        server.create(MAPS, json!({"metadata": {"generateName": "a-"}, "data": {"k": "s3cret"}})).await;
    let request = http::Request::builder().uri(MAPS).header("impersonate-user", "bob");
    let refused = server.send(Who::Admin, request.body(Full::new(Bytes::new())).unwrap()).await;
    assert_eq!(refused.status(), 403);
    server.stop().await;
    let path = folder.path().join("audit.log");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [created, listed] = lines.as_slice() else { panic!("{text}") };
    assert_eq!((&created["verb"], &created["sourceIPs"]), (&json!("create"), &json!(["127.0.0.1"])));
    assert_eq!(created["objectRef"]["name"], made["metadata"]["name"], "the name that was drawn");
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(listed["impersonatedUser"]["username"], "bob");
    assert_eq!(listed["user"]["username"], created["user"]["username"]);
    assert_eq!(listed["annotations"]["authorization.k8s.io/decision"], "forbid");
}
