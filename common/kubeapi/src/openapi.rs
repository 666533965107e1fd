//! OpenAPI: the whole as v2, in JSON and in the protobuf form that kubectl asks for, and a v3 document of each group and version.
//! Schemas are Kubernetes' own of the built-in kinds (`apimachinery::schemas`) and the CustomResourceDefinitions'. Documents are
//! made when they are asked for; a hash says whether a client's copy is still right (docs/protocol/kubernetes-api.md 1).

mod custom;
mod gnostic;
mod operations;
mod v2;
mod v3;

use apimachinery::Status;
use apimachinery::path::query_pairs;
use apimachinery::schemas::definitions;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::discovery::RELEASE;
use crate::registry::{REVIEWS, Registry, Resource, Version};
use crate::respond::{self, Answer};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(crate) fn answer(
    catalog: &Registry,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Answer, Status> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = text(http::header::ACCEPT);
    match path.strip_prefix("/openapi/").unwrap_or_default() {
        "v2" => {
            let is_protobuf = accepts.contains("proto-openapi.spec.v2");
            let hash = format!("{}{}", hash(catalog, |_, _| true), if is_protobuf { "P" } else { "" });
            Ok(marked(&hash, false, text(IF_NONE_MATCH), || {
                let document = v2::document(catalog);
                match is_protobuf {
                    true => respond::bytes(200, V2_PROTOBUF, gnostic::document(&document)),
                    false => respond::json(200, &document),
                }
            }))
        }
        "v3" => Ok(respond::json(200, &v3::index(catalog))),
        other => {
            let wanted = other.strip_prefix("v3/").ok_or_else(Status::no_such_path)?;
            if !served(catalog).any(|(resource, version)| prefix(&resource, &version) == wanted) {
                return Err(Status::no_such_path());
            }
            let hash = hash(catalog, |resource, version| prefix(resource, version) == wanted);
            let asked = query_pairs(query.unwrap_or_default());
            let is_asked = asked.iter().any(|(key, value)| key == "hash" && *value == hash);
            Ok(marked(&hash, is_asked, text(IF_NONE_MATCH), || {
                respond::json(200, &v3::document(catalog, wanted))
            }))
        }
    }
}

/// An answer with its hash, or 304 for a client that has it. What was asked for by its hash never changes.
fn marked(hash: &str, is_asked: bool, known: &str, make: impl FnOnce() -> Answer) -> Answer {
    let mark = format!("\"{hash}\"");
    let is_known = known.split(',').any(|one| one.trim().trim_start_matches("W/") == mark);
    let mut answer = if is_known { respond::bytes(304, "application/json", "") } else { make() };
    if let Ok(mark) = HeaderValue::from_str(&mark) {
        answer.headers_mut().insert(ETAG, mark);
    }
    let caching = if is_asked { "public, max-age=31536000, immutable" } else { "no-cache, private" };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    answer
}

/// A mark of all that a document of these versions says.
fn hash(catalog: &Registry, wanted: impl Fn(&Resource, &str) -> bool) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(&definitions::edition().to_le_bytes());
    for (resource, version) in served(catalog).filter(|(resource, version)| wanted(resource, version)) {
        let schema =
            resource.versions.iter().find(|one| one.name == version).and_then(|one| one.schema.as_ref());
        let schema = schema.map(Value::to_string).unwrap_or_default();
        for part in [&resource.group, &version, &resource.plural, &resource.kind, &schema] {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
    }
    digest.finish().as_ref().iter().take(32).map(|byte| format!("{byte:02X}")).collect()
}

/// Every served resource in each of its versions.
fn served(catalog: &Registry) -> impl Iterator<Item = (std::sync::Arc<Resource>, String)> {
    catalog.resources().into_iter().flat_map(|resource| {
        let names: Vec<String> = resource.versions.iter().map(|version| version.name.clone()).collect();
        names.into_iter().map(move |name| (resource.clone(), name))
    })
}

/// `api/v1` or `apis/<group>/<version>`
fn prefix(resource: &Resource, version: &str) -> String {
    match resource.group.as_str() {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": RELEASE })
}

fn identity(resource: &Resource, version: &str) -> Value {
    json!({ "group": resource.group, "version": version, "kind": resource.kind })
}

/// Kinds that are sent to subresources, or with any request.
const OTHERS: [&str; 6] = ["Binding", "Eviction", "TokenRequest", "Scale", "DeleteOptions", "Status"];

/// True for the definition of a kind that is served in `group` and `version`, of its list, and of what is sent beside objects.
fn belongs(schema: &Value, group: &str, version: &str, kinds: &[String]) -> bool {
    let list = schema["x-kubernetes-group-version-kind"].as_array();
    list.into_iter().flatten().any(|entry| {
        let kind = entry["kind"].as_str().unwrap_or_default();
        entry["group"] == group
            && entry["version"] == version
            && (OTHERS.contains(&kind)
                || REVIEWS.iter().any(|review| review.kind == kind)
                || kinds.iter().any(|served| {
                    kind.strip_prefix(served.as_str()).is_some_and(|rest| matches!(rest, "" | "List"))
                }))
    })
}

fn custom_version<'a>(resource: &'a Resource, version: &str) -> Option<&'a Version> {
    resource.versions.iter().find(|one| resource.custom && one.name == version)
}
