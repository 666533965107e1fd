//! The documents that describe the API.

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::client::{Server, Who};
use crate::objects::definition;

/// (code, headers, body) of a GET with a header.
async fn get(server: &Server, path: &str, header: (&str, &str)) -> (u16, http::HeaderMap, Vec<u8>) {
    let request = http::Request::get(path).header(header.0, header.1).body(Full::default()).unwrap();
    let response = server.send(Who::Admin, request).await;
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    (code, headers, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[track_caller]
fn every_reference_leads_somewhere(value: &Value, prefix: &str, schemas: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(reference) => {
                        let name = reference.strip_prefix(prefix).unwrap();
                        assert!(schemas.get(name).is_some(), "{name} is missing");
                    }
                    None => every_reference_leads_somewhere(value, prefix, schemas),
                }
            }
        }
        Value::Array(list) => {
            list.iter().for_each(|item| every_reference_leads_somewhere(item, prefix, schemas));
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_group_and_version_has_a_document_that_is_whole() {
    let server = Server::start().await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    let (_, index) = server.get("/openapi/v3").await;
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.len() > 15, "{}", paths.len());
    for (place, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let (code, document) = server.get(url).await;
        assert_eq!((code, &document["openapi"]), (200, &json!("3.0.0")), "{place}");
        let schemas = &document["components"]["schemas"];
        every_reference_leads_somewhere(&document, "#/components/schemas/", schemas);
        // What clients look for: each path's kind has a schema.
        for operations in document["paths"].as_object().unwrap().values() {
            let wanted = &operations["get"]["x-kubernetes-group-version-kind"];
            let is_it = |schema: &Value| {
                let kinds = schema["x-kubernetes-group-version-kind"].as_array();
                kinds.is_some_and(|kinds| kinds.contains(wanted))
            };
            assert!(schemas.as_object().unwrap().values().any(is_it), "{wanted}");
        }
    }
    let (_, document) = server.get("/openapi/v3/apis/demo.io/v1").await;
    let schema = &document["components"]["schemas"]["io.demo.v1.Thing"];
    assert_eq!(schema["properties"]["spec"]["properties"]["m"]["default"], "d");
    assert_eq!(
        schema["properties"]["metadata"]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    assert_eq!(server.get("/openapi/v3/apis/nope/v1").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_document_of_v2_has_the_schemas_of_all_kinds() {
    let server = Server::start().await;
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    let (_, document) = server.get("/openapi/v2").await;
    let definitions = &document["definitions"];
    every_reference_leads_somewhere(&document, "#/definitions/", definitions);
    let containers = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert!(containers["description"].as_str().unwrap().starts_with("List of containers"));
    assert_eq!(definitions["io.demo.v1.Thing"]["properties"]["spec"]["required"], json!(["n"]));
    // What v2 cannot say is left out, and so is what is below fields that take anything.
    assert_eq!(
        definitions["io.demo.v1.Thing"]["properties"]["spec"]["properties"]["m"],
        json!({"type": "string"})
    );
    server.stop().await;
}

#[tokio::test]
async fn kubectl_gets_the_document_of_v2_as_protobuf() {
    let server = Server::start().await;
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (code, headers, body) = get(&server, "/openapi/v2", ("accept", accept)).await;
    assert_eq!(code, 200);
    assert_eq!(headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    // Field 1 is the version, field 2 the info.
    assert_eq!(body[..6], [0x0a, 3, b'2', b'.', b'0', 0x12]);
    server.stop().await;
}

#[tokio::test]
async fn a_document_that_a_client_has_is_not_sent_again_until_it_changes() {
    let server = Server::start().await;
    let (_, index) = server.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (_, headers, _) = get(&server, url, ("accept", "application/json")).await;
    assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
    let mark = headers["etag"].to_str().unwrap().to_owned();
    let (code, _, body) = get(&server, url, ("if-none-match", &mark)).await;
    assert_eq!((code, body.len()), (304, 0));
    let (_, headers, _) = get(&server, "/openapi/v2", ("accept", "application/json")).await;
    let whole = headers["etag"].to_str().unwrap().to_owned();
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()).await;
    assert_eq!(get(&server, url, ("if-none-match", &mark)).await.0, 304);
    assert_eq!(get(&server, "/openapi/v2", ("if-none-match", &whole)).await.0, 200);
    server.stop().await;
}
