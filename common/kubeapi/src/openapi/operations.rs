//! Paths of a document and what may be asked there (`kube-openapi/pkg/builder`, `builder3`).

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::registry::{Resource, Version};

/// Which document it is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edition {
    V2,
    V3,
}

/// Its name and type.
type Parameter = (&'static str, &'static str);

const CHANGING: &[Parameter] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCHING: &[Parameter] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETING: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const SELECTING: &[Parameter] = &[
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
];
const WATCHING: &[Parameter] = &[("allowWatchBookmarks", "boolean"), ("watch", "boolean")];

/// Media types of patches; custom resources take none of the last.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// The names of definitions by their group, version and kind.
pub(super) struct Names(HashMap<[String; 3], String>);

impl Names {
    pub(super) fn of(definitions: &Map<String, Value>) -> Names {
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let named = definitions.iter().flat_map(|(name, schema)| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
            kinds.map(move |one| (["group", "version", "kind"].map(|key| text(one, key)), name.clone()))
        });
        Names(named.collect())
    }

    fn find(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        self.0.get(&[group, version, kind].map(str::to_owned)).map(String::as_str)
    }
}

/// A resource in a version, and how it is told of.
pub(super) struct Told<'a> {
    pub(super) edition: Edition,
    pub(super) names: &'a Names,
    pub(super) resource: &'a Resource,
    pub(super) version: &'a Version,
}

/// One thing that may be asked.
struct Operation<'a> {
    /// Of its identifier.
    verb: &'a str,
    action: &'a str,
    parameters: Vec<Parameter>,
    /// The kind that is sent.
    body: Option<&'a str>,
    /// The kind that is answered.
    answer: &'a str,
}

impl Told<'_> {
    /// The paths of a resource, below `place` (`api/v1`).
    pub(super) fn paths(&self, place: &str) -> Vec<(String, Value)> {
        let (resource, kind) = (self.resource, self.resource.kind.as_str());
        let space = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        let whole = format!("/{place}{space}/{}", resource.plural);
        let one = format!("{whole}/{{name}}");
        let list = || Operation {
            verb: "list",
            action: "list",
            parameters: [SELECTING, WATCHING].concat(),
            body: None,
            answer: &resource.list_kind,
        };
        let create = Operation {
            verb: "create",
            action: "post",
            parameters: CHANGING.to_vec(),
            body: Some(kind),
            answer: kind,
        };
        let clear = Operation {
            verb: "delete",
            action: "deletecollection",
            parameters: [DELETING, SELECTING].concat(),
            body: Some("DeleteOptions"),
            answer: "Status",
        };
        let delete = Operation {
            verb: "delete",
            action: "delete",
            parameters: DELETING.to_vec(),
            body: Some("DeleteOptions"),
            answer: "Status",
        };
        let named = format!("{scope}{kind}");
        let mut all = vec![
            (
                whole,
                self.item(
                    &[],
                    [
                        ("get", self.operation(&list(), &named)),
                        ("post", self.operation(&create, &named)),
                        ("delete", self.operation(&clear, &format!("Collection{named}"))),
                    ],
                ),
            ),
            (
                one.clone(),
                self.item(
                    &["name"],
                    self.of_one(kind, &named)
                        .into_iter()
                        .chain([("delete", self.operation(&delete, &named))]),
                ),
            ),
        ];
        if resource.namespaced {
            let everywhere = self.operation(&list(), &format!("{kind}ForAllNamespaces"));
            all.push((format!("/{place}/{}", resource.plural), self.item(&[], [("get", everywhere)])));
        }
        for (part, kind) in [("status", Some(kind)), ("scale", self.version.scale.as_ref().map(|_| "Scale"))]
        {
            let Some(kind) = kind.filter(|_| part != "status" || self.version.status) else { continue };
            let suffix = if part == "status" { "Status" } else { "Scale" };
            let operations = self.of_one(kind, &format!("{named}{suffix}"));
            all.push((format!("{one}/{part}"), self.item(&["name"], operations)));
        }
        all
    }

    /// Reading and changing one object.
    fn of_one(&self, kind: &str, named: &str) -> [(&'static str, Value); 3] {
        let of = |verb, action, parameters: &[Parameter], body| {
            let operation = Operation { verb, action, parameters: parameters.to_vec(), body, answer: kind };
            self.operation(&operation, named)
        };
        [
            ("get", of("read", "get", &[], None)),
            ("put", of("replace", "put", CHANGING, Some(kind))),
            ("patch", of("patch", "patch", PATCHING, Some("Patch"))),
        ]
    }

    /// What may be asked at a path, and what is to be put in it.
    fn item(
        &self,
        parts: &[&'static str],
        operations: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Value {
        let mut item: Map<String, Value> =
            operations.into_iter().map(|(verb, operation)| (verb.to_owned(), operation)).collect();
        let space = self.resource.namespaced.then_some("namespace");
        let mut parameters: Vec<Value> =
            parts.iter().copied().chain(space).map(|name| self.parameter((name, "string"), "path")).collect();
        parameters.push(self.parameter(("pretty", "string"), "query"));
        item.insert("parameters".to_owned(), json!(parameters));
        Value::Object(item)
    }

    fn parameter(&self, (name, of): Parameter, place: &str) -> Value {
        let mut parameter = match self.edition {
            Edition::V2 => json!({ "name": name, "in": place, "type": of, "uniqueItems": true }),
            Edition::V3 => {
                json!({ "name": name, "in": place, "schema": { "type": of, "uniqueItems": true } })
            }
        };
        if place == "path" {
            parameter["required"] = json!(true);
        }
        parameter
    }

    fn operation(&self, told: &Operation<'_>, named: &str) -> Value {
        let (resource, version) = (self.resource, self.version);
        let mut parameters: Vec<Value> =
            told.parameters.iter().map(|one| self.parameter(*one, "query")).collect();
        let codes: &[&str] = match told.action {
            "post" => &["200", "201", "202"],
            "put" | "patch" => &["200", "201"],
            "delete" => &["200", "202"],
            _ => &["200"],
        };
        let responses: Map<String, Value> =
            codes.iter().map(|code| ((*code).to_owned(), self.response(code, told.answer))).collect();
        let id = format!("{}{}{}{named}", told.verb, camel(&resource.group), titled(&version.name));
        let mut operation = json!({
            "operationId": id, "responses": responses, "x-kubernetes-action": told.action,
            "x-kubernetes-group-version-kind": super::identity(resource, &version.name),
        });
        if let Some(kind) = told.body {
            let (schema, is_needed) = (self.reference(kind), kind != "DeleteOptions");
            match self.edition {
                Edition::V2 => {
                    parameters.insert(
                        0,
                        json!({ "name": "body", "in": "body", "required": is_needed, "schema": schema }),
                    );
                }
                Edition::V3 => {
                    let custom = usize::from(resource.custom);
                    let media = if kind == "Patch" { &PATCHES[..PATCHES.len() - custom] } else { &["*/*"] };
                    let content: Map<String, Value> =
                        media.iter().map(|of| ((*of).to_owned(), json!({ "schema": schema }))).collect();
                    operation["requestBody"] = json!({ "content": content, "required": is_needed });
                }
            }
        }
        operation["parameters"] = json!(parameters);
        operation
    }

    fn response(&self, code: &str, kind: &str) -> Value {
        let description = match code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        let schema = self.reference(kind);
        match self.edition {
            Edition::V2 => json!({ "description": description, "schema": schema }),
            Edition::V3 => {
                let media = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
                let media = &media[..media.len() - usize::from(self.resource.custom)];
                let content: Map<String, Value> =
                    media.iter().map(|of| ((*of).to_owned(), json!({ "schema": schema }))).collect();
                json!({ "description": description, "content": content })
            }
        }
    }

    /// The schema of a kind: of the resource's own group and version, or of those that all groups share.
    fn reference(&self, kind: &str) -> Value {
        let own = self.names.find(&self.resource.group, &self.version.name, kind);
        let shared = || match kind {
            "Scale" => self.names.find("autoscaling", "v1", kind),
            _ => self.names.find("", "v1", kind),
        };
        match own.or_else(shared) {
            Some(name) => {
                json!({ "$ref": format!("{}{name}", match self.edition {
                    Edition::V2 => apimachinery::schemas::definitions::PREFIX,
                    Edition::V3 => "#/components/schemas/",
                }) })
            }
            None => json!({ "type": "object" }),
        }
    }
}

/// `RbacAuthorization` for `rbac.authorization.k8s.io`, `Core` for none.
fn camel(group: &str) -> String {
    match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "Core".to_owned(),
        group => group.split(['.', '-']).map(titled).collect(),
    }
}

fn titled(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
