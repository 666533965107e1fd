//! Unknown, doubled and mistyped fields (kubernetes.io/docs/reference/using-api/api-concepts, "Field validation"; upstream's
//! `test/integration/apiserver/field_validation_test.go`).

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::client::{MAPS, Server, Who, config_map};
use crate::objects::definition;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// (code, warnings, body)
async fn send(
    server: &Server,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> (u16, Vec<String>, Value) {
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
    let response = server.send(Who::Admin, request.body(Full::from(body.to_owned())).unwrap()).await;
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, warnings, serde_json::from_slice(&bytes).unwrap())
}

const ODD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
    "foo": null, "restartPolicy": "Never", "restartPolicy": "Always",
    "containers": [{"name": "c", "image": "i", "imgae": "x"}]}}"#;

#[tokio::test]
async fn unknown_and_doubled_fields_are_refused_warned_of_or_passed_over() {
    let server = Server::start().await;
    let json = "application/json";
    let told = [
        "unknown field \"spec.containers[0].imgae\"",
        "unknown field \"spec.foo\"",
        "duplicate field \"spec.restartPolicy\"",
    ];
    let (code, _, status) = send(&server, "POST", &format!("{PODS}?fieldValidation=Strict"), json, ODD).await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (
            400,
            format!(
                "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: {}",
                told.join(", ")
            )
            .as_str()
        )
    );
    // Warn is what counts if nothing is said.
    for query in ["?dryRun=All", "?dryRun=All&fieldValidation=Warn"] {
        let (code, warnings, made) = send(&server, "POST", &format!("{PODS}{query}"), json, ODD).await;
        let wanted = told.map(|text| format!("299 - \"{}\"", text.replace('"', "\\\"")));
        assert_eq!((code, warnings), (201, wanted.to_vec()));
        assert_eq!((made["spec"].get("foo"), &made["spec"]["restartPolicy"]), (None, &json!("Always")));
        assert_eq!(made["spec"]["containers"][0].get("imgae"), None);
    }
    let (code, warnings, _) =
        send(&server, "POST", &format!("{PODS}?fieldValidation=Ignore"), json, ODD).await;
    assert_eq!((code, warnings), (201, vec![]));
    let (code, _, status) = send(&server, "POST", &format!("{PODS}?fieldValidation=Loud"), json, ODD).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("fieldValidation")));
    server.stop().await;
}

#[tokio::test]
async fn patches_are_judged_by_what_they_make() {
    let server = Server::start().await;
    server.create(MAPS, config_map("m")).await;
    let path = format!("{MAPS}/m?fieldValidation=Strict");
    for (kind, patch) in [
        ("application/merge-patch+json", r#"{"datta": {"a": "b"}}"#),
        ("application/strategic-merge-patch+json", r#"{"datta": {"a": "b"}}"#),
        ("application/json-patch+json", r#"[{"op": "add", "path": "/datta", "value": {}}]"#),
    ] {
        let (code, _, status) = send(&server, "PATCH", &path, kind, patch).await;
        assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{kind}");
        let message = status["message"].as_str().unwrap();
        assert!(message.ends_with("strict decoding error: unknown field \"datta\""), "{message}");
    }
    let (code, warnings, patched) =
        send(&server, "PATCH", &format!("{MAPS}/m"), "application/merge-patch+json", r#"{"datta": {}}"#)
            .await;
    assert_eq!((code, warnings.len(), patched.get("datta")), (200, 1, None));
    let twice = r#"{"data": {"a": "1", "a": "2"}}"#;
    let (code, ..) = send(&server, "PATCH", &path, "application/merge-patch+json", twice).await;
    assert_eq!(code, 422);
    server.stop().await;
}

#[tokio::test]
async fn mistyped_fields_are_refused_under_every_directive() {
    let server = Server::start().await;
    let pod = r#"{"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": 1}]}}"#;
    for directive in ["Strict", "Warn", "Ignore"] {
        let path = format!("{PODS}?fieldValidation={directive}");
        let (code, _, status) = send(&server, "POST", &path, "application/json", pod).await;
        assert_eq!(code, 400);
        assert_eq!(
            status["message"],
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field \
             Container.spec.containers.image of type string"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn custom_resources_are_validated_alike() {
    let server = Server::start().await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    let things = "/apis/demo.io/v1/namespaces/default/things";
    let thing = r#"{"apiVersion": "demo.io/v1", "kind": "Thing", "metadata": {"name": "t", "foo": 1},
        "spec": {"n": 1, "junk": null, "n": 2}}"#;
    let (code, _, status) =
        send(&server, "POST", &format!("{things}?fieldValidation=Strict"), "application/json", thing).await;
    assert_eq!(
        (code, status["message"].as_str().unwrap()),
        (
            400,
            "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"metadata.foo\", \
             unknown field \"spec.junk\", duplicate field \"spec.n\""
        )
    );
    let (code, warnings, made) = send(&server, "POST", things, "application/json", thing).await;
    assert_eq!((code, warnings.len(), &made["spec"]), (201, 3, &json!({"n": 2, "m": "d"})));
    server.stop().await;
}

#[tokio::test]
async fn yaml_bodies_are_read_as_kubernetes_reads_them() {
    let server = Server::start().await;
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: i, \
        resources: {requests: {cpu: 0.5, memory: 1024Ki}}}\n  volumes:\n  - {name: v, secret: {secretName: s, defaultMode: 0400}}\n";
    let (code, _, made) = send(&server, "POST", PODS, "application/yaml", text).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        made["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "500m", "memory": "1Mi"})
    );
    assert_eq!(made["spec"]["volumes"][0]["secret"]["defaultMode"], 256);
    let twice = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: m}\ndata: {a: b}\ndata: {c: d}\n";
    let (code, warnings, made) = send(&server, "POST", MAPS, "application/yaml", twice).await;
    let told = "299 - \"line 5: key \\\"data\\\" already set in map\"";
    assert_eq!((code, warnings, &made["data"]), (201, vec![told.to_owned()], &json!({"c": "d"})));
    server.stop().await;
}
