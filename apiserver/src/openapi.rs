//! OpenAPI: an empty v2 document, and v3 documents that say which kinds can be written where, with the schemas of
//! custom resources. Built-in types have no schemas here, so clients fall back to what they were compiled with.

use apimachinery::Status;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::registry::Resource;
use crate::respond::{self, Answer};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(crate) fn answer(context: &Context, path: &str, headers: &HeaderMap) -> Result<Answer, Status> {
    let accept =
        headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match path.strip_prefix("/openapi/").unwrap_or_default() {
        // Zero bytes are an empty gnostic Document.
        "v2" if accept.contains("proto-openapi.spec.v2") => Ok(respond::bytes(200, V2_PROTOBUF, "")),
        "v2" => {
            let document = json!({ "swagger": "2.0", "info": info(), "paths": {}, "definitions": {} });
            Ok(respond::json(200, &document))
        }
        "v3" => Ok(respond::json(200, &index(context))),
        other => {
            let prefix = other.strip_prefix("v3/").ok_or_else(Status::no_such_path)?;
            group_version(context, prefix).map(|document| respond::json(200, &document))
        }
    }
}

fn info() -> Value {
    json!({ "title": "Causeway", "version": "v1.33.0" })
}

/// `api/v1` or `apis/<group>/<version>`
fn prefix(resource: &Resource, version: &str) -> String {
    match resource.group.as_str() {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

fn index(context: &Context) -> Value {
    let mut paths = Map::new();
    for resource in context.registry.resources() {
        for version in &resource.versions {
            let prefix = prefix(&resource, &version.name);
            let url = format!("/openapi/v3/{prefix}");
            paths.insert(prefix, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

fn group_version(context: &Context, wanted: &str) -> Result<Value, Status> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in context.registry.resources() {
        for version in resource.versions.iter().filter(|version| prefix(&resource, &version.name) == wanted) {
            let gvk = json!({ "group": resource.group, "version": version.name, "kind": resource.kind });
            let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
            let collection = format!("/{wanted}{namespace}/{}", resource.plural);
            let operation = |action: &str, parameters: &[&str]| {
                let parameters: Vec<Value> = parameters.iter().map(|name| parameter(name)).collect();
                json!({
                    "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "parameters": parameters,
                    "responses": { "200": { "description": "OK" } },
                })
            };
            let write = ["dryRun", "fieldManager", "fieldValidation"];
            let item = json!({
                "get": operation("get", &[]), "put": operation("put", &write), "patch": operation("patch", &write),
                "delete": operation("delete", &["dryRun"]),
            });
            paths.insert(format!("{collection}/{{name}}"), item);
            paths.insert(
                collection,
                json!({ "get": operation("list", &[]), "post": operation("post", &write) }),
            );
            let name = format!("{}.{}.{}", reversed(&resource.group), version.name, resource.kind);
            let mut schema = version.schema.clone().unwrap_or_else(|| json!({ "type": "object" }));
            schema["x-kubernetes-group-version-kind"] = json!([gvk]);
            schemas.insert(name, schema);
        }
    }
    if paths.is_empty() {
        return Err(Status::no_such_path());
    }
    Ok(json!({ "openapi": "3.0.0", "info": info(), "paths": paths, "components": { "schemas": schemas } }))
}

fn parameter(name: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } })
}

/// `io.k8s.apps` for `apps.k8s.io`
fn reversed(group: &str) -> String {
    let parts: Vec<&str> = group.rsplit('.').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "core".to_owned() } else { parts.join(".") }
}
