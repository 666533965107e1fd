//! CustomResourceDefinitions: read, defaulted, checked.

use apimachinery::object::{list, text};
use apimachinery::schema::structural;
use apimachinery::{Cause, names};
use serde_json::{Value, json};

use super::{Conversion, Resource, ScalePaths, Version};

/// What a CRD serves, or `None` if nothing.
pub(super) fn read(definition: &Value) -> Option<Resource> {
    let spec = definition.get("spec").filter(|_| super::accepted::is_established(definition))?;
    let strings = |pointer: &str| -> Vec<String> {
        list(spec, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut versions: Vec<Version> =
        list(spec, "/versions").iter().filter(|version| version["served"] == true).map(version).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(priority(&version.name)));
    let kind = text(spec, "/names/kind");
    let resource = Resource {
        group: text(spec, "/group").to_owned(),
        plural: text(spec, "/names/plural").to_owned(),
        singular: text(spec, "/names/singular").to_owned(),
        kind: kind.to_owned(),
        list_kind: text(spec, "/names/listKind").to_owned(),
        short_names: strings("/names/shortNames"),
        categories: strings("/names/categories"),
        subresources: vec![],
        namespaced: text(spec, "/scope") == "Namespaced",
        versions,
        conversion: conversion(spec),
        custom: true,
    };
    (!resource.versions.is_empty() && !kind.is_empty()).then_some(resource)
}

/// How objects get from one version to another, if not by their name alone.
fn conversion(spec: &Value) -> Option<Conversion> {
    let conversion = &spec["conversion"];
    let storage = list(spec, "/versions").iter().find(|version| version["storage"] == true)?;
    (conversion["strategy"] == "Webhook").then(|| Conversion {
        storage: text(storage, "/name").to_owned(),
        schema: storage.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default(),
        client: conversion["webhook"]["clientConfig"].clone(),
    })
}

fn version(version: &Value) -> Version {
    Version {
        name: text(version, "/name").to_owned(),
        status: version.pointer("/subresources/status").is_some(),
        schema: version.pointer("/schema/openAPIV3Schema").cloned(),
        columns: list(version, "/additionalPrinterColumns").to_vec(),
        scale: version.pointer("/subresources/scale").map(scale),
        selectable: list(version, "/selectableFields")
            .iter()
            .map(|field| text(field, "/jsonPath").trim_start_matches('.').to_owned())
            .collect(),
        deprecated: (version["deprecated"] == true).then(|| text(version, "/deprecationWarning").to_owned()),
    }
}

fn scale(scale: &Value) -> ScalePaths {
    // Simple paths: `.spec.replicas`.
    let pointer = |name: &str| text(scale, name).replace('~', "~0").replace('/', "~1").replace('.', "/");
    let selector = Some(pointer("/labelSelectorPath")).filter(|path| !path.is_empty());
    ScalePaths { wanted: pointer("/specReplicasPath"), status: pointer("/statusReplicasPath"), selector }
}

/// Kubernetes' version order: v10 > v2 > v1 > v2beta1 > v1beta2 > v1alpha1 > anything else.
fn priority(name: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = name.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        let (stage, minor) = match &rest[end..] {
            "" => (3, ""),
            tail => tail
                .strip_prefix("beta")
                .map(|minor| (2, minor))
                .or_else(|| tail.strip_prefix("alpha").map(|minor| (1, minor)))?,
        };
        Some((stage, major, minor.parse().unwrap_or(0)))
    };
    parse().unwrap_or((0, 0, 0))
}

/// Fills in what a CRD may leave out and sets the status that says it is served.
pub fn with_defaults(definition: &mut Value, now: &str) {
    let kind = text(definition, "/spec/names/kind").to_owned();
    let spec = &mut definition["spec"];
    if !spec.is_object() {
        return;
    }
    let default = |at: &mut Value, key: &str, value: Value| {
        if at.get(key).is_none_or(Value::is_null) {
            at[key] = value;
        }
    };
    default(spec, "conversion", json!({ "strategy": "None" }));
    if spec["names"].is_object() {
        default(&mut spec["names"], "singular", json!(kind.to_lowercase()));
        default(&mut spec["names"], "listKind", json!(format!("{kind}List")));
    }
    let names = spec["names"].clone();
    let current = list(spec, "/versions").iter().filter(|version| version["storage"] == true);
    let current: Vec<Value> = current.map(|version| version["name"].clone()).collect();
    let mut stored = list(definition, "/status/storedVersions").to_vec();
    stored.extend(current.into_iter().filter(|name| !stored.contains(name)).collect::<Vec<_>>());
    let conditions = definition.pointer("/status/conditions").cloned();
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message });
    definition["status"] = json!({
        "acceptedNames": names,
        "storedVersions": stored,
        "conditions": conditions.unwrap_or_else(|| json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ])),
    });
}

/// What is wrong with a CRD.
pub fn problems(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &definition["spec"];
    for field in ["/group", "/names/plural", "/names/kind", "/scope"] {
        if text(spec, field).is_empty() {
            causes.push(Cause::required(format!("spec{}", field.replace('/', ".")), ""));
        }
    }
    let (group, plural) = (text(spec, "/group"), text(spec, "/names/plural"));
    let name = text(definition, "/metadata/name");
    if name != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(name), detail));
    }
    if let Some(why) = names::subdomain(group) {
        causes.push(Cause::invalid("spec.group", &json!(group), &why));
    }
    if !matches!(text(spec, "/scope"), "Namespaced" | "Cluster") {
        causes.push(Cause::unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
    }
    causes.extend(conversion_problems(&spec["conversion"]));
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", &json!(true), why));
    }
    let versions = list(spec, "/versions");
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!(stored), detail));
    }
    let schemas: Vec<&Value> = versions.iter().map(|version| &version["schema"]["openAPIV3Schema"]).collect();
    let is_one = schemas.windows(2).all(|pair| pair[0] == pair[1]);
    for (at, schema) in schemas.iter().enumerate().take(if is_one { 1 } else { schemas.len() }) {
        let path = match is_one {
            true => "spec.validation.openAPIV3Schema".to_owned(),
            false => format!("spec.versions[{at}].schema.openAPIV3Schema"),
        };
        causes.extend(structural::problems(schema, &path));
    }
    for (at, version) in versions.iter().enumerate() {
        let schema = version.pointer("/schema/openAPIV3Schema");
        if !schema.is_some_and(Value::is_object) {
            causes.push(Cause::required(
                format!("spec.versions[{at}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        }
        if let Some(why) = names::label(text(version, "/name")) {
            causes.push(Cause::invalid(format!("spec.versions[{at}].name"), &version["name"], &why));
        }
    }
    causes
}

fn conversion_problems(conversion: &Value) -> Vec<Cause> {
    let (strategy, field) = (text(conversion, "/strategy"), "spec.conversion");
    let webhook = &conversion["webhook"];
    match strategy {
        "Webhook" => {}
        "None" | "" => {
            let why = "should not be set when strategy is not set to Webhook";
            let is_set = !webhook.is_null();
            return is_set.then(|| Cause::forbidden(format!("{field}.webhook"), why)).into_iter().collect();
        }
        other => {
            return vec![Cause::unsupported(
                format!("{field}.strategy"),
                &json!(other),
                &["None", "Webhook"],
            )];
        }
    }
    let mut causes = Vec::new();
    if webhook["clientConfig"].is_null() {
        let why = "required when strategy is set to Webhook";
        causes.push(Cause::required(format!("{field}.webhook.clientConfig"), why));
    }
    let versions = list(webhook, "/conversionReviewVersions");
    if versions.is_empty() {
        causes.push(Cause::required(format!("{field}.webhook.conversionReviewVersions"), ""));
    } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        let why = "must include at least one of v1, v1beta1";
        causes.push(Cause::invalid(
            format!("{field}.webhook.conversionReviewVersions"),
            &json!(versions),
            why,
        ));
    }
    causes
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_preferred_as_kubernetes_does() {
        let mut names = ["foo", "v1alpha1", "v1beta2", "v2beta1", "v1", "v10", "v2"];
        names.sort_by_key(|name| std::cmp::Reverse(super::priority(name)));
        assert_eq!(names, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]);
    }
}
