//! Discovery: which groups, versions and resources there are, in the classic and the aggregated form.

use std::collections::BTreeMap;

use apimachinery::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ETAG, HOST, IF_NONE_MATCH, VARY};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::{Value, json};

use crate::protobuf;
use crate::registry::{Computed, Elsewhere, Registry, Resource, Version};
use crate::respond::{self, Answer};

/// (version, its media type in JSON, in Protobuf)
const AGGREGATED: [(&str, &str, &str); 2] = [
    (
        "v2",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    (
        "v2beta1",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    ),
];

/// The release of Kubernetes whose API this follows.
pub(crate) const RELEASE: &str = "v1.36.0-causeway";

/// `/version`
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": RELEASE, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// All that a backend offers.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub catalog: &'a Registry,
    pub computed: &'a [Computed],
    pub elsewhere: &'a [Elsewhere],
    /// There is `/metrics`.
    pub metrics: bool,
}

/// Resources of one group version, in the forms of both discoveries: (APIResource, APIResourceDiscovery).
type ResourceLists = (Vec<Value>, Value);
/// Versions of a group, preferred first.
type Versions = Vec<(String, Vec<ResourceLists>)>;

fn all(offer: Offer<'_>) -> BTreeMap<String, Versions> {
    let mut groups: BTreeMap<String, Versions> = BTreeMap::new();
    let mut add = |group: &str, version: &str, entry: ResourceLists| {
        let versions = groups.entry(group.to_owned()).or_default();
        match versions.iter_mut().find(|(name, _)| name == version) {
            Some((_, entries)) => entries.push(entry),
            None => versions.push((version.to_owned(), vec![entry])),
        }
    };
    for resource in offer.catalog.resources() {
        for version in &resource.versions {
            add(&resource.group, &version.name, describe(&resource, version));
        }
    }
    for one in offer.computed {
        let classic = json!({
            "name": one.plural, "singularName": one.singular, "namespaced": one.namespaced, "kind": one.kind,
            "verbs": one.verbs,
        });
        let aggregated = json!({
            "resource": one.plural, "singularResource": one.singular, "verbs": one.verbs,
            "scope": if one.namespaced { "Namespaced" } else { "Cluster" },
            "responseKind": { "group": one.group, "version": one.version, "kind": one.kind },
        });
        add(one.group, one.version, (vec![classic], aggregated));
    }
    for one in offer.elsewhere {
        let versions = groups.entry(one.group.clone()).or_default();
        match versions.iter_mut().find(|(name, _)| *name == one.version) {
            // It is not served here then.
            Some((_, entries)) => *entries = one.listed(),
            None => versions.push((one.version.clone(), one.listed())),
        }
    }
    groups
}

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// In the order of the API server's part for custom resources.
const VERBS_OF_CUSTOM: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// Namespaces go one by one.
const VERBS_OF_NAMESPACES: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// (name, kind, verbs) of the subresources of a resource.
fn subresources(
    resource: &Resource,
    version: &Version,
) -> Vec<(&'static str, String, &'static [&'static str])> {
    let named = |name: &'static str| match name {
        "binding" => (name, "Binding".to_owned(), &["create"] as &[_]),
        "eviction" => (name, "Eviction".to_owned(), &["create"] as &[_]),
        "token" => (name, "TokenRequest".to_owned(), &["create"] as &[_]),
        "scale" => (name, "Scale".to_owned(), &STATUS_VERBS as &[_]),
        "log" => (name, resource.kind.clone(), &["get"] as &[_]),
        _ => (name, resource.kind.clone(), &STATUS_VERBS as &[_]),
    };
    let status = version.status.then_some("status").into_iter();
    let scale = version.scale.is_some().then_some("scale");
    status.chain(scale).chain(resource.subresources.iter().copied()).map(named).collect()
}

/// Group and version of what a subresource is, if it is of another group than its resource.
fn foreign(subresource: &str) -> Option<(&'static str, &'static str)> {
    match subresource {
        "scale" => Some(("autoscaling", "v1")),
        "eviction" => Some(("policy", "v1")),
        "token" => Some(("authentication.k8s.io", "v1")),
        _ => None,
    }
}

fn describe(resource: &Resource, version: &Version) -> ResourceLists {
    let verbs = match resource.plural.as_str() {
        _ if resource.custom => VERBS_OF_CUSTOM,
        "namespaces" if resource.group.is_empty() => VERBS_OF_NAMESPACES,
        _ => VERBS,
    };
    // Built-in objects are stored in the first version.
    let stored = resource.versions.first().filter(|_| !resource.custom).unwrap_or(version);
    let mut main = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": verbs,
        "storageVersionHash": storage_hash(&resource.group, &stored.name, &resource.kind),
    });
    // Of the group and version that it is listed in, which are left out, as upstream does for built-in kinds.
    let (group, of) =
        if resource.custom { (resource.group.as_str(), version.name.as_str()) } else { ("", "") };
    let kind = |kind: &str| json!({ "group": group, "version": of, "kind": kind });
    let mut aggregated = json!({
        "resource": resource.plural, "responseKind": kind(&resource.kind), "singularResource": resource.singular,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "verbs": verbs,
    });
    for (key, values) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !values.is_empty() {
            main[key] = json!(values);
            aggregated[key] = json!(values);
        }
    }
    let mut classic = vec![main];
    let mut nested = Vec::new();
    for (name, response, verbs) in subresources(resource, version) {
        let mut entry = json!({
            "name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.namespaced,
            "kind": response, "verbs": verbs,
        });
        let mut kind = kind(&response);
        if let Some((group, version)) = foreign(name) {
            kind["group"] = json!(group);
            kind["version"] = json!(version);
            entry["group"] = json!(group);
            entry["version"] = json!(version);
        }
        classic.push(entry);
        nested.push(json!({ "subresource": name, "responseKind": kind, "verbs": verbs }));
    }
    if !nested.is_empty() {
        aggregated["subresources"] = json!(nested);
    }
    (classic, aggregated)
}

/// By which clients tell in which version a resource is stored (`apiserver/pkg/endpoints/discovery/storageversionhash.go`).
fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, format!("{group}/{version}/{kind}").as_bytes());
    STANDARD.encode(hash.as_ref().get(..8).unwrap_or_default())
}

/// The aggregated form, if the client prefers it; 304 if it has it.
fn aggregated(offer: Offer<'_>, headers: &HeaderMap, groups: &BTreeMap<String, Versions>) -> Option<Answer> {
    let is_stale = |group: &str, version: &str| {
        offer.elsewhere.iter().any(|one| one.is_stale && one.group == group && one.version == version)
    };
    let accept = headers.get(http::header::ACCEPT)?.to_str().ok()?.replace(' ', "");
    let wanted = accept.split(',').find_map(|range| {
        let (version, json, packed) = AGGREGATED.iter().find(|(version, ..)| {
            range.contains("g=apidiscovery.k8s.io")
                && range.contains("as=APIGroupDiscoveryList")
                && range.split(';').any(|part| part.strip_prefix("v=") == Some(*version))
        })?;
        Some((*version, *json, range.starts_with(protobuf::MEDIA_TYPE).then_some(*packed)))
    });
    let (version, media, packed) = wanted?;
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, versions)| {
            let versions = versions.iter().map(|(name, entries)| {
                let resources: Vec<&Value> = entries.iter().map(|(_, aggregated)| aggregated).collect();
                let freshness = if is_stale(group, name) { "Stale" } else { "Current" };
                json!({ "version": name, "resources": resources, "freshness": freshness })
            });
            json!({ "metadata": { "name": group }, "versions": versions.collect::<Vec<_>>() })
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    });
    let text = list.to_string();
    let hash = ring::digest::digest(&ring::digest::SHA512, text.as_bytes());
    let mark: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let mark = format!("\"{mark}\"");
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == mark.as_bytes());
    let in_protobuf = |packed| Some((packed, protobuf::answer(&text).ok()??));
    let mut answer = match packed.and_then(in_protobuf) {
        _ if is_known => respond::bytes(304, media, ""),
        Some((packed, told)) => respond::bytes(200, packed, told),
        None => respond::bytes(200, media, text),
    };
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(mark) = HeaderValue::from_str(&mark) {
        answer.headers_mut().insert(ETAG, mark);
    }
    Some(answer)
}

/// `/`: the paths there are.
pub(crate) fn root(offer: Offer<'_>) -> Answer {
    let mut paths: Vec<String> = [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    if offer.metrics {
        paths.push("/metrics".to_owned());
    }
    for (group, versions) in all(offer) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|(version, _)| format!("/apis/{group}/{version}")));
        }
    }
    paths.sort();
    respond::json(200, &json!({ "paths": paths }))
}

/// `/api`
pub(crate) fn core(offer: Offer<'_>, headers: &HeaderMap, uri: &Uri) -> Answer {
    let mut groups = all(offer);
    groups.retain(|group, _| group.is_empty());
    aggregated(offer, headers, &groups).unwrap_or_else(|| {
        // As the client has it: HTTP/2 names the host in the request's target.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let address = host.or_else(|| uri.authority().map(Authority::as_str)).unwrap_or_default();
        let versions = json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
        });
        respond::json(200, &versions)
    })
}

fn group_json(name: &str, versions: &Versions) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

/// `/apis`
pub(crate) fn groups(offer: Offer<'_>, headers: &HeaderMap) -> Answer {
    let mut groups = all(offer);
    groups.remove("");
    aggregated(offer, headers, &groups).unwrap_or_else(|| {
        let list: Vec<Value> = groups.iter().map(|(name, versions)| group_json(name, versions)).collect();
        respond::json(200, &json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": list }))
    })
}

/// `/apis/<group>`
pub(crate) fn group(offer: Offer<'_>, name: &str) -> Result<Answer, Status> {
    let groups = all(offer);
    let versions = groups.get(name).filter(|_| !name.is_empty()).ok_or_else(Status::no_such_path)?;
    let mut answer = group_json(name, versions);
    answer["kind"] = json!("APIGroup");
    answer["apiVersion"] = json!("v1");
    Ok(respond::json(200, &answer))
}

/// `/api/v1`, `/apis/<group>/<version>`
pub(crate) fn resources(offer: Offer<'_>, group: &str, version: &str) -> Result<Answer, Status> {
    let groups = all(offer);
    let versions = groups.get(group).ok_or_else(Status::no_such_path)?;
    let (_, entries) = versions.iter().find(|(name, _)| name == version).ok_or_else(Status::no_such_path)?;
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let resources: Vec<String> = entries.iter().flat_map(|(classic, _)| classic).map(in_order).collect();
    let text = format!(
        r#"{{"kind":"APIResourceList","apiVersion":"v1","groupVersion":{},"resources":[{}]}}"#,
        json!(group_version),
        resources.join(",")
    );
    Ok(respond::bytes(200, "application/json", text))
}

/// The fields of an `APIResource`, as they are declared (`apimachinery/pkg/apis/meta/v1/types.go`): scripts look for some of them
/// side by side.
const FIELDS: [&str; 10] = [
    "name",
    "singularName",
    "namespaced",
    "group",
    "version",
    "kind",
    "verbs",
    "shortNames",
    "categories",
    "storageVersionHash",
];

fn in_order(resource: &Value) -> String {
    let known = FIELDS.iter().filter_map(|name| Some((*name, resource.get(*name)?)));
    // Of another server.
    let others = resource.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value));
    let others = others.filter(|(name, _)| !FIELDS.contains(name));
    let fields: Vec<String> =
        known.chain(others).map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_resource_come_as_they_are_declared() {
        let told = json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get"],
            "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "x=", "another": 1});
        let expected = r#"{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"],"shortNames":["po"],"categories":["all"],"storageVersionHash":"x=","another":1}"#;
        assert_eq!(in_order(&told), expected);
    }
}
