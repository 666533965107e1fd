//! What is handed on to the cloud, and refused without it.

use std::sync::Arc;

use message::ObjectKind;
use metaserver::Bounds;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::client::Who;
use crate::cloud::{Cloud, NODE};
use crate::node::Node;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_to_the_cloud_as_their_caller_and_are_refused_while_cut_off() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let (reader, stranger) = (cloud.token("reader"), cloud.token("stranger"));
    let (reader, stranger) = (Who::Token(&reader), Who::Token(&stranger));
    let map = |name: &str| json!({ "metadata": { "name": name }, "data": { "k": "v" } }).to_string();
    let made = node.call(&reader, "POST", MAPS, &map("a")).await;
    assert_eq!((made.code, &made.body["data"]["k"]), (201, &json!("v")));
    assert_eq!(node.call(&stranger, "POST", MAPS, &map("b")).await.code, 403);
    let again = node.call(&reader, "POST", MAPS, &map("a")).await;
    assert_eq!((again.code, again.body["reason"].as_str()), (409, Some("AlreadyExists")));
    let patched = node.call(&reader, "PUT", &format!("{MAPS}/a"), &map("a")).await;
    assert_eq!(patched.code, 200);
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get", "resource": "configmaps", "namespace": "shop" } } });
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = review.to_string();
    for (who, may) in [(&reader, true), (&stranger, false)] {
        assert_eq!(node.call(who, "POST", reviews, &review).await.body["status"]["allowed"], may);
    }
    cloud.cut();
    for (method, path, body) in [
        ("POST", MAPS.to_owned(), map("c")),
        ("PUT", format!("{MAPS}/a"), map("a")),
        ("PATCH", format!("{MAPS}/a"), "{}".to_owned()),
        ("DELETE", format!("{MAPS}/a"), String::new()),
        ("DELETE", MAPS.to_owned(), String::new()),
        ("POST", reviews.to_owned(), review.clone()),
    ] {
        let told = node.call(&reader, method, &path, &body).await;
        assert_eq!(
            (told.code, told.body["reason"].as_str()),
            (503, Some("ServiceUnavailable")),
            "{method} {path}"
        );
        assert!(told.body["message"].as_str().unwrap().contains("cut off"), "{}", told.body);
        assert!(told.body["details"].get("retryAfterSeconds").is_none(), "clients would wait and ask again");
    }
    cloud.mend();
    let (_, list) = cloud.admin("GET", MAPS, json!(null)).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "nothing was done, and nothing is done later");
}

/// A Node API that answers once, and tells what it was asked.
async fn node_api(path: &std::path::Path) -> tokio::task::JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: 7\r\n\r\na line\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap().lines().next().unwrap().to_owned()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_a_pod_here_are_read_by_the_node_itself_without_the_cloud() {
    let cloud = Cloud::start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("edged.sock");
    let asked = node_api(&socket).await;
    let node = Node::start_with(&cloud, Bounds::default(), Some(socket)).await;
    let pod = json!({ "metadata": { "name": "web", "namespace": "shop", "uid": "p", "resourceVersion": "5" },
        "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "i" }] } });
    node.hold(ObjectKind::Pod, &pod).await;
    let token = cloud.token("reader");
    assert_eq!(node.get(&Who::Token(&token), MAPS).await.code, 200);
    cloud.cut();
    let path = "/api/v1/namespaces/shop/pods/web/log?tailLines=5&previous=false";
    assert_eq!(node.get(&Who::Token(&token), path).await.code, 503, "only who may");
    let own = node.own();
    let request = http::Request::get(path).body(Default::default()).unwrap();
    let answer = node.send(&Who::Certificate(&own), request).await;
    assert_eq!(answer.status(), 200);
    let text = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(&text[..], b"a line\n");
    let asked = asked.await.unwrap();
    assert_eq!(asked, "GET /containerLogs/shop/web/main?previous=false&tailLines=5 HTTP/1.1");
    let missing = node.get(&Who::Certificate(&own), "/api/v1/namespaces/shop/pods/other/log").await;
    assert_eq!(missing.code, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_bounded() {
    let cloud = Cloud::start().await;
    for name in ["a", "b", "c"] {
        cloud.config_map(name, "1").await;
    }
    let bounds = Bounds { views: 1, objects_of_one: 2, ..Bounds::default() };
    let node = Node::start_with(&cloud, bounds, None).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let large = node.get(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!(large.code, 413, "{}", large.body);
    let scope = |name: &str| format!("{MAPS}?watch=1&labelSelector=app%3D{name}");
    let mut first = node.watch(&who, &scope("a")).await;
    assert_eq!(first.brief().await, "ADDED a");
    assert_eq!(node.get(&who, &scope("b")).await.code, 503, "all views are watched");
    drop(first);
    let mut second = Arc::new(node.get(&who, &format!("{}&timeoutSeconds=1", scope("b"))).await);
    while second.code == 503 {
        tokio::task::yield_now().await;
        second = Arc::new(node.get(&who, &format!("{}&timeoutSeconds=1", scope("b"))).await);
    }
    assert_eq!(second.code, 200, "one that nobody watches gives way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_carried_to_the_cloud_as_its_caller() {
    let cloud = Cloud::start().await;
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    // The keys are known then, and the next stream is the session's.
    assert_eq!(node.get(&Who::Token(&token), MAPS).await.code, 200);
    while cloud.count("/version") == 0 {
        tokio::task::yield_now().await;
    }
    cloud.upgrades.store(true, std::sync::atomic::Ordering::SeqCst);
    let path = "/api/v1/namespaces/shop/pods/web/exec?command=sh&stdin=true";
    let request = http::Request::post(path)
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("x-stream-protocol-version", "v4.channel.k8s.io");
    let answer = node.send(&Who::Token(&token), request.body(Default::default()).unwrap()).await;
    assert_eq!(answer.status(), 101);
    let session = hyper::upgrade::on(answer).await.unwrap();
    let mut session = hyper_util::rt::TokioIo::new(session);
    session.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    session.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    let head = cloud.head.lock().unwrap().clone();
    for part in [
        "post /api/v1/namespaces/shop/pods/web/exec?command=sh&stdin=true http/1.1",
        "upgrade: spdy/3.1",
        "x-stream-protocol-version: v4.channel.k8s.io",
        "authorization: bearer ",
    ] {
        assert!(head.contains(part), "no {part:?} in {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_too_large_for_the_node_is_refused_and_its_pages_are_not() {
    let cloud = Cloud::start().await;
    for number in 0..18 {
        cloud.config_map(&format!("m{number:02}"), &"x".repeat(1_000_000)).await;
    }
    let node = Node::start(&cloud).await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let whole = node.get(&who, MAPS).await;
    assert_eq!((whole.code, whole.body["reason"].as_str()), (413, Some("RequestEntityTooLarge")));
    assert_eq!(node.get(&who, &format!("{MAPS}?limit=3")).await.names(), ["m00", "m01", "m02"]);
    assert_eq!(node.get(&who, &format!("{MAPS}/m17")).await.code, 200);
}

const MERGE: &str = "application/merge-patch+json";

/// A node that takes changes of config maps, and events, and whose account `reader` has changed the map `a` before.
async fn queueing(cloud: &Arc<Cloud>) -> (Node, String) {
    cloud.config_map("a", "1").await;
    cloud.config_map("b", "1").await;
    let mut node = Node::start(cloud).await;
    node.again(|node| {
        assert!(node.queued_writes.declare("configmaps") && node.queued_writes.declare("events"));
    })
    .await;
    let token = cloud.token("reader");
    let who = Who::Token(&token);
    let map = node.get(&who, &format!("{MAPS}/a")).await.body;
    assert_eq!(node.write(&who, "PUT", &format!("{MAPS}/a"), "application/json", &map).await.code, 200);
    let patch = json!({ "data": { "before": "1" } });
    assert_eq!(node.write(&who, "PATCH", &format!("{MAPS}/a"), MERGE, &patch).await.code, 200);
    assert_eq!(node.get(&who, MAPS).await.code, 200);
    (node, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_change_of_who_could_before_waits_for_the_cloud_and_reaches_it_as_his() {
    let cloud = Cloud::start().await;
    let (mut node, token) = queueing(&cloud).await;
    let (who, one) = (Who::Token(&token), format!("{MAPS}/a"));
    let stranger = cloud.token("stranger");
    let mut lines = node.watch(&who, &format!("{MAPS}?watch=1")).await;
    assert_eq!([lines.brief().await, lines.brief().await], ["ADDED a", "ADDED b"]);
    let known = node.get(&who, &one).await.body;
    cloud.cut();
    let patch = json!({ "data": { "k": "2" } });
    let told = node.write(&who, "PATCH", &one, MERGE, &patch).await;
    assert_eq!((told.code, &told.body["data"]["k"]), (200, &json!("2")), "{told:?}");
    assert!(told.warnings.iter().any(|warning| warning.contains("waits")), "{told:?}");
    assert_eq!(lines.brief().await, "MODIFIED a", "who watches here sees it");
    let mut old = known.clone();
    old["metadata"]["resourceVersion"] = json!("1");
    for (code, who, method, path, body) in [
        (403, &Who::Token(&stranger), "PATCH", one.clone(), &patch),
        // He has not changed that one before.
        (403, &who, "PATCH", format!("{MAPS}/b"), &patch),
        (409, &who, "PUT", one.clone(), &old),
        (503, &who, "DELETE", one.clone(), &json!({})),
        (503, &who, "POST", MAPS.to_owned(), &json!({ "metadata": { "name": "c" } })),
    ] {
        let media = if method == "PATCH" { MERGE } else { "application/json" };
        let told = node.write(who, method, &path, media, body).await;
        assert_eq!(told.code, code, "{method} {path}: {told:?}");
    }
    let mut whole = known;
    whole["data"] = json!({ "k": "3" });
    assert_eq!(node.write(&who, "PUT", &one, "application/json", &whole).await.code, 200);
    for started_again in [false, true] {
        if started_again {
            node.again(|_| ()).await;
        }
        assert_eq!(node.get(&who, &one).await.body["data"], json!({ "k": "3" }));
        assert_eq!(node.get(&who, MAPS).await.body["items"][0]["data"], json!({ "k": "3" }));
    }
    let before = cloud.count("configmaps/a");
    cloud.mend();
    while cloud.admin("GET", &one, json!(null)).await.1["data"] != json!({ "k": "3" }) {
        tokio::task::yield_now().await;
    }
    assert_eq!(cloud.count("configmaps/a"), before + 1, "the patch was void");
    assert_eq!(cloud.askers("configmaps/a").last().unwrap(), "system:serviceaccount:shop:reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_of_a_caller_whose_token_is_over_is_carried_out_with_his_next_one() {
    let cloud = Cloud::start().await;
    let (node, token) = queueing(&cloud).await;
    let one = format!("{MAPS}/a");
    cloud.cut();
    let patch = json!({ "data": { "k": "2" } });
    assert_eq!(node.write(&Who::Token(&token), "PATCH", &one, MERGE, &patch).await.code, 200);
    cloud.revoke(&token);
    let before = cloud.count("configmaps/a");
    cloud.mend();
    while cloud.count("configmaps/a") == before {
        tokio::task::yield_now().await;
    }
    let data = |map: serde_json::Value| map["data"]["k"].clone();
    assert_eq!(data(cloud.admin("GET", &one, json!(null)).await.1), "1", "the cloud did not take it");
    // Others are not held up by it.
    let other = cloud.token("stranger");
    assert_eq!(node.write(&Who::Token(&other), "PATCH", &one, MERGE, &patch).await.code, 403);
    let next = crate::cloud::sign(
        &cloud.key,
        &crate::cloud::claims("reader", crate::cloud::ISSUER, crate::cloud::ISSUER, 7200),
    );
    cloud.take(&next, "reader");
    assert_eq!(node.get(&Who::Token(&next), &format!("{MAPS}/b")).await.code, 200);
    while data(cloud.admin("GET", &one, json!(null)).await.1) != "2" {
        tokio::task::yield_now().await;
    }
}
