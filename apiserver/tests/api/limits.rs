//! Clients that ask for too much, or for what is not there.

use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::client::{MAPS, Server, Who, config_map};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GADGETS: &str = "/apis/example.com/v1/namespaces/default/gadgets";

/// Of custom resources that may have any field.
fn open_definition() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": schema}}]}})
}

#[tokio::test]
async fn oversize_and_deep_bodies_are_refused_and_others_go_on() {
    let server = Server::start().await;
    let huge = "x".repeat(4 * 1024 * 1024);
    let (code, status) = server.call(Who::Admin, "POST", MAPS, "application/json", &huge).await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(server.call(Who::Admin, "POST", MAPS, "application/json", &deep).await.0, 400);
    let deep = format!(
        "{{\"metadata\":{{\"name\":\"d\"}},\"data\":{}1{}}}",
        "{\"a\":".repeat(5000),
        "}".repeat(5000)
    );
    assert_eq!(server.call(Who::Admin, "POST", MAPS, "application/json", &deep).await.0, 400);
    let (code, _) = server.call(Who::Admin, "POST", MAPS, "application/yaml", &deep).await;
    assert_eq!(code, 400);
    server.create(MAPS, config_map("still-here")).await;
    server.stop().await;
}

#[tokio::test]
async fn what_nests_too_deeply_to_be_read_again_is_not_kept() {
    let server = Server::start().await;
    server.create(DEFINITIONS, open_definition()).await;
    let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let gadget = |name: &str, levels: usize| {
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Gadget","metadata":{{"name":"{name}"}},"spec":{}}}"#,
            nested(levels)
        )
    };
    for (name, levels, wanted) in [("a", 60, 201), ("b", 110, 201), ("c", 119, 400), ("d", 124, 400)] {
        let body = gadget(name, levels);
        let (code, status) = server.call(Who::Admin, "POST", GADGETS, "application/json", &body).await;
        assert_eq!(code, wanted, "{status}");
        let apply = format!("{GADGETS}/applied-{name}?fieldManager=m");
        let body = gadget(&format!("applied-{name}"), levels);
        let (code, status) =
            server.call(Who::Admin, "PATCH", &apply, "application/apply-patch+yaml", &body).await;
        assert_eq!(code, wanted, "{status}");
    }
    // Step by step is no way either.
    let path = format!("/spec{}", "/a".repeat(109));
    let patch = format!(r#"[{{"op":"add","path":"{path}","value":{}}}]"#, nested(100));
    let (code, status) = server
        .call(Who::Admin, "PATCH", &format!("{GADGETS}/b"), "application/json-patch+json", &patch)
        .await;
    assert_eq!(code, 400, "{status}");
    let list = server.get(GADGETS).await;
    assert_eq!((list.0, list.1["items"].as_array().unwrap().len()), (200, 4));
    server.stop().await;
}

#[tokio::test]
async fn noise_on_the_socket_disturbs_nobody() {
    let server = Server::start().await;
    for noise in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 1000], &[0x16, 3, 1, 0xff, 0xff]] {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
    }
    // One that stays open and says nothing.
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.get("/version").await.0, 200);
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn modes_in_yaml_bodies_are_octal() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: octal}\nspec:\n  containers: [{name: a, image: b}]\n  \
        volumes: [{name: v, emptyDir: {}}, {name: w, downwardAPI: {defaultMode: 0644}}, \
        {name: x, downwardAPI: {defaultMode: 0o400}}]\n";
    let (code, made) = server.call(Who::Admin, "POST", pods, "application/yaml", yaml).await;
    assert_eq!(code, 201, "{made}");
    let mode = |index: usize| made["spec"]["volumes"][index]["downwardAPI"]["defaultMode"].clone();
    assert_eq!((mode(1), mode(2)), (420.into(), 256.into()));
    server.stop().await;
}

#[tokio::test]
async fn bodies_and_answers_are_negotiated() {
    let server = Server::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yam}\ndata: {a: b}\n";
    assert_eq!(server.call(Who::Admin, "POST", MAPS, "application/yaml", yaml).await.0, 201);
    assert_eq!(server.call(Who::Admin, "POST", MAPS, "application/cbor", "x").await.0, 415);
    assert_eq!(
        server.call(Who::Admin, "PATCH", &format!("{MAPS}/yam"), "application/json", "{}").await.0,
        415
    );
    for (accept, code) in [
        ("application/vnd.kubernetes.protobuf", 200),
        ("application/cbor", 406),
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", 406),
        ("application/vnd.kubernetes.protobuf, application/json", 200),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", 200),
        ("*/*", 200),
    ] {
        let request =
            http::Request::get(MAPS).header("accept", accept).body(Full::<Bytes>::default()).unwrap();
        assert_eq!(server.send(Who::Admin, request).await.status(), code, "{accept}");
    }
    for (method, path, code) in [
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/apis/none.io/v1", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("POST", "/api/v1/namespaces/default/configmaps/y", 405),
        ("PUT", MAPS, 405),
        ("GET", "/api/v1/pods/%2e%2e", 404),
    ] {
        assert_eq!(
            server.call(Who::Admin, method, path, "application/json", "{}").await.0,
            code,
            "{method} {path}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn more_silent_connections_than_there_are_places_keep_nobody_waiting() {
    daemon::stop::raise_open_files();
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..4200 {
        silent.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let asked = tokio::time::timeout(std::time::Duration::from_secs(5), server.get("/version")).await;
    assert_eq!(asked.expect("the request waits for silent connections").0, 200);
    drop(silent);
    server.stop().await;
}
