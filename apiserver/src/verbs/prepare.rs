//! Metadata rules that all objects share, on the way into storage.

use apimachinery::kinds::{KINDS, split_api_version};
use apimachinery::object::{self, map_in, text};
use apimachinery::{Cause, Status, names};
use daemon::clock;
use kubeapi::faces;
use kubeapi::target::Target;
use serde_json::{Map, Value, json};

/// Checks `apiVersion` and `kind`, the namespace and the name against the URL, and takes the first two off.
pub(super) fn envelope(target: &Target, value: &mut Value) -> Result<(), Status> {
    let served = &target.served;
    let given = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api_version) = (given("kind"), given("apiVersion"));
    if !value.is_object() {
        return Err(Status::bad_request("the object provided is not a JSON object"));
    }
    // Built-ins may come without: typed clients leave them out.
    let missing_ok = !served.resource.custom;
    let is_kind = kind == served.resource.kind || (kind.is_empty() && missing_ok);
    let is_version = api_version == served.api_version() || (api_version.is_empty() && missing_ok);
    if missing_ok && !(is_kind && is_version) {
        return Err(other_kind(target, &kind, &api_version));
    }
    if !is_kind {
        return Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: no kind {kind:?} is registered here",
            kind,
            served.version().name,
            served.resource.kind
        )));
    }
    if api_version != served.api_version() && !(api_version.is_empty() && missing_ok) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            served.api_version()
        )));
    }
    faces::to_stored(served, value);
    let map = object::as_map(value);
    map.remove("kind");
    map.remove("apiVersion");
    let metadata = map_in(map, "metadata");
    metadata.remove("selfLink");
    metadata.retain(|_, value| !value.is_null());
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    match (namespace.is_empty(), served.resource.namespaced) {
        (_, true) if !namespace.is_empty() && namespace != target.namespace => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        (_, true) => {
            metadata.insert("namespace".to_owned(), json!(target.namespace));
            Ok(())
        }
        (false, false) => {
            metadata.remove("namespace");
            Ok(())
        }
        (true, false) => Ok(()),
    }
}

/// 400 for an object of another kind or version than is served at the URL, both built in.
fn other_kind(target: &Target, kind: &str, api_version: &str) -> Status {
    let served = &target.served;
    let (own, version) = (&served.resource.kind, &served.version().name);
    let api_version = if api_version.is_empty() { served.api_version() } else { api_version.to_owned() };
    let (group, of) = split_api_version(&api_version);
    let is_known = KINDS.iter().any(|(_, line)| (line.group, line.version, line.kind) == (group, of, kind));
    let why = match is_known {
        true => {
            let internal = served.resource.group.split('.').next().filter(|group| !group.is_empty());
            let internal = internal.unwrap_or("core");
            format!("converting ({of}.{kind}) to ({internal}.{own}): unknown conversion")
        }
        false => format!("no kind {kind:?} is registered for version {api_version:?}"),
    };
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {own}: {why}"))
}

/// Sets what the server sets on new objects.
pub(super) fn created(value: &mut Value, counts_generations: bool) -> Result<(), Status> {
    if !matches!(object::resource_version(value), "" | "0") {
        // An error of its storage, as kube-apiserver has it.
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    let metadata = object::metadata(value);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"] {
        metadata.remove(key);
    }
    metadata.insert("uid".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
    metadata.insert("creationTimestamp".to_owned(), json!(clock::rfc3339(clock::now())));
    if counts_generations {
        metadata.insert("generation".to_owned(), json!(1));
    }
    let generate = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let unnamed = metadata.get("name").and_then(Value::as_str).unwrap_or_default().is_empty();
    if unnamed && !generate.is_empty() {
        let stem: String = generate.chars().take(58).collect();
        metadata.insert("name".to_owned(), json!(format!("{stem}{}", crate::suffix::draw())));
    }
    Ok(())
}

/// Puts back what an update must not change.
pub(super) fn keep(old: &Value, new: &mut Value) {
    let old = old.get("metadata").and_then(Value::as_object);
    let metadata = object::metadata(new);
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        match old.and_then(|old| old.get(key)) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.remove(key),
        };
    }
}

/// Puts back who owns which fields.
pub(super) fn keep_record(old: &Value, new: &mut Value) {
    let metadata = object::metadata(new);
    match object::at(old, "/metadata/managedFields") {
        Some(record) => metadata.insert("managedFields".to_owned(), record.clone()),
        None => metadata.remove("managedFields"),
    };
}

/// Whether and how the name and the rest of the metadata are wrong.
pub(super) fn problems(target: &Target, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = object::name(value);
    let rule = match (target.served.resource.group.as_str(), target.served.resource.plural.as_str()) {
        ("", "namespaces" | "services") => names::label,
        ("rbac.authorization.k8s.io" | "certificates.k8s.io", _) | (_, "ipaddresses" | "apiservices") => {
            names::path_segment
        }
        _ => names::subdomain,
    };
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = rule(name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), &why));
    }
    check_pairs(value, "labels", names::label_value, &mut causes);
    check_pairs(value, "annotations", |_| None, &mut causes);
    for finalizer in object::list(value, "/metadata/finalizers") {
        if let Some(why) = names::qualified(finalizer.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.finalizers", finalizer, &why));
        }
    }
    owners(value, &mut causes);
    causes
}

/// Owners are named in full, and one of them at most is the controller. Kubernetes does not say which of them is wrong.
fn owners(value: &Value, causes: &mut Vec<Cause>) {
    let owners = object::list(value, "/metadata/ownerReferences");
    for owner in owners {
        for (field, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(owner, &format!("/{field}")).is_empty() {
                causes.push(Cause::invalid(format!("metadata.ownerReferences.{field}"), &json!(""), why));
            }
        }
    }
    let mut controllers = owners.iter().filter(|owner| owner["controller"] == true);
    if let (Some(one), Some(other)) = (controllers.next(), controllers.next()) {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            named(one),
            named(other)
        );
        causes.push(Cause::invalid("metadata.ownerReferences", &json!(owners), &why));
    }
}

fn named(owner: &Value) -> String {
    format!("{}/{}", text(owner, "/kind"), text(owner, "/name"))
}

/// Kubernetes' limit for all annotations of an object together.
const ANNOTATIONS: usize = 256 * 1024;

fn check_pairs(value: &Value, field: &str, rule: impl Fn(&str) -> Option<String>, causes: &mut Vec<Cause>) {
    let path = format!("metadata.{field}");
    let empty = Map::new();
    let pairs = match value.get("metadata").and_then(|metadata| metadata.get(field)) {
        None => &empty,
        Some(Value::Object(pairs)) => pairs,
        Some(other) => return causes.push(Cause::type_invalid(path, other, "must be a map")),
    };
    let mut size = 0;
    for (key, value) in pairs {
        let text = value.as_str();
        size += key.len() + text.map_or(0, str::len);
        if let Some(why) = names::qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid(path.clone(), &json!(key), &why));
        }
        match text {
            None => causes.push(Cause::type_invalid(format!("{path}.{key}"), value, "must be a string")),
            Some(text) => {
                causes.extend(rule(text).map(|why| Cause::invalid(path.clone(), value, &why)));
            }
        }
    }
    if size > ANNOTATIONS {
        causes.push(Cause::too_long(path, ANNOTATIONS));
    }
}
