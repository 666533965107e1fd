//! What is wrong with a configuration (`pkg/apis/admissionregistration/validation/validation.go`).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::Url;
use super::configuration::Phase;
use super::rules::Operation;
use crate::object::{integer, list, text};
use crate::{Cause, LabelSelector, names};

/// Everything that is wrong with a configuration, which was completed before, except for its expressions.
pub fn problems(phase: Phase, configuration: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut seen = HashSet::new();
    for (at, hook) in list(configuration, "/webhooks").iter().enumerate() {
        let path = format!("webhooks[{at}]");
        let name = text(hook, "/name");
        if !name.is_empty() && !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
        }
        webhook(phase, hook, &path, &mut causes);
    }
    causes
}

fn webhook(phase: Phase, hook: &Value, path: &str, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    let mut choice = |field: &str, allowed: &[&str]| {
        if !allowed.contains(&hook[field].as_str().unwrap_or_default()) {
            causes.push(match &hook[field] {
                Value::Null => {
                    Cause::required(at(field), &format!("must specify one of {}", allowed.join(", ")))
                }
                other => Cause::unsupported(at(field), other, allowed),
            });
        }
    };
    choice("failurePolicy", &["Fail", "Ignore"]);
    choice("matchPolicy", &["Equivalent", "Exact"]);
    choice("sideEffects", &["None", "NoneOnDryRun"]);
    if phase == Phase::Mutating {
        choice("reinvocationPolicy", &["IfNeeded", "Never"]);
    }
    name(text(hook, "/name"), at("name"), causes);
    versions(list(hook, "/admissionReviewVersions"), &at("admissionReviewVersions"), causes);
    if !integer(hook, "/timeoutSeconds").is_some_and(|seconds| (1..=30).contains(&seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        causes.push(Cause::invalid(at("timeoutSeconds"), &hook["timeoutSeconds"], detail));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        causes.extend(LabelSelector::of_object(&hook[field], &at(field)).err().into_iter().flatten());
    }
    client(&hook["clientConfig"], &at("clientConfig"), causes);
    for (number, rule) in list(hook, "/rules").iter().enumerate() {
        rule_problems(rule, &format!("{path}.rules[{number}]"), causes);
    }
}

fn name(name: &str, field: String, causes: &mut Vec<Cause>) {
    let detail = "should be a domain with at least three segments separated by dots";
    if name.is_empty() {
        causes.push(Cause::required(field, ""));
    } else if let Some(why) = names::subdomain(name) {
        causes.push(Cause::invalid(field, &json!(name), &why));
    } else if name.split('.').count() < 3 {
        causes.push(Cause::invalid(field, &json!(name), detail));
    }
}

fn versions(versions: &[Value], field: &str, causes: &mut Vec<Cause>) {
    if versions.is_empty() {
        causes.push(Cause::required(field, "must specify one of v1"));
    } else if !versions.iter().any(|version| version == "v1") {
        // The older form is not spoken here.
        let is_older = versions.iter().any(|version| version == "v1beta1");
        let why = if is_older { "must include v1" } else { "must include at least one of v1, v1beta1" };
        causes.push(Cause::invalid(field, &json!(versions), why));
    }
}

fn client(config: &Value, path: &str, causes: &mut Vec<Cause>) {
    let (url, service) = (&config["url"], &config["service"]);
    if url.is_null() == service.is_null() {
        causes.push(Cause::required(path, "exactly one of url or service is required"));
    }
    if !url.is_null()
        && let Err(error) = Url::parse(url.as_str().unwrap_or_default())
    {
        causes.push(Cause::invalid(format!("{path}.url"), url, &error.to_string()));
    }
    if !service.is_null() {
        for (field, detail) in
            [("name", "service name is required"), ("namespace", "service namespace is required")]
        {
            let field_path = format!("{path}.service.{field}");
            match text(service, &format!("/{field}")) {
                "" => causes.push(Cause::required(field_path, detail)),
                // It becomes part of a name of the server and of a key.
                text => causes
                    .extend(names::label(text).map(|why| Cause::invalid(field_path, &json!(text), &why))),
            }
        }
        if let Some(service_path) = service["path"].as_str()
            && !(service_path.starts_with('/')
                && service_path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)))
        {
            let detail = "must start with a '/', and be a path without a query";
            causes.push(Cause::invalid(format!("{path}.service.path"), &service["path"], detail));
        }
        if !integer(service, "/port").is_some_and(|port| (1..=65_535).contains(&port)) {
            let detail = "port is not valid: must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.service.port"), &service["port"], detail));
        }
    }
    let bundle = text(config, "/caBundle");
    if STANDARD.decode(bundle).is_err() {
        causes.push(Cause::invalid(format!("{path}.caBundle"), &json!("<omitted>"), "must be base64"));
    }
}

/// What is wrong with a rule, of webhooks or of policies, which was completed before.
pub fn rule_problems(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["operations", "apiGroups", "apiVersions", "resources"] {
        let words = list(rule, &format!("/{field}"));
        let field = format!("{path}.{field}");
        if words.is_empty() {
            causes.push(Cause::required(field.clone(), ""));
        }
        if words.len() > 1 && words.iter().any(|word| word == "*") {
            let detail = "if '*' is present, must not specify other values";
            if !field.ends_with("resources") {
                causes.push(Cause::invalid(field, &json!(words), detail));
            }
        }
    }
    for (at, operation) in list(rule, "/operations").iter().enumerate() {
        let known = operation.as_str().is_some_and(|one| one == "*" || Operation::NAMES.contains(&one));
        if !known {
            let allowed = [&["*"], &Operation::NAMES[..]].concat();
            causes.push(Cause::unsupported(format!("{path}.operations[{at}]"), operation, &allowed));
        }
    }
    for field in ["apiVersions", "resources"] {
        for (at, word) in list(rule, &format!("/{field}")).iter().enumerate() {
            if word.as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(format!("{path}.{field}[{at}]"), ""));
            }
        }
    }
    let scope = text(rule, "/scope");
    if !matches!(scope, "*" | "Cluster" | "Namespaced") {
        causes.push(Cause::unsupported(
            format!("{path}.scope"),
            &rule["scope"],
            &["*", "Cluster", "Namespaced"],
        ));
    }
}
