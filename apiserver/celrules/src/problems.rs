//! What is wrong with policies and their bindings (`pkg/apis/admissionregistration/validation`), and what they may leave out.

mod mutating;

use std::collections::HashSet;
use std::sync::Arc;

use apimachinery::object::{self, list, map_in, maps_in, set_default, text};
use apimachinery::webhooks::rule_problems;
use apimachinery::{Cause, LabelSelector, names};
use serde_json::{Map, Value as Json, json};

use crate::budget::Budget;
use crate::policy;
use crate::program::Program;
use crate::types::Scope;

/// Fills in what a policy or a binding may leave out.
pub fn complete(object: &mut Json) {
    let spec = map_in(object::as_map(object), "spec");
    if spec.contains_key("policyName") {
        if let Some(matches) = spec.get_mut("matchResources").and_then(Json::as_object_mut) {
            resources(matches);
        }
        return;
    }
    set_default(spec, "failurePolicy", "Fail");
    if let Some(matches) = spec.get_mut("matchConstraints").and_then(Json::as_object_mut) {
        resources(matches);
    }
}

fn resources(matches: &mut Map<String, Json>) {
    set_default(matches, "matchPolicy", "Equivalent");
    set_default(matches, "namespaceSelector", json!({}));
    set_default(matches, "objectSelector", json!({}));
    for field in ["resourceRules", "excludeResourceRules"] {
        maps_in(matches, field).for_each(|rule| set_default(rule, "scope", "*"));
    }
}

/// Which policies are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Validating,
    Mutating,
}

/// Everything that is wrong with a policy. Recursive: call it on a thread of a [`crate::Runner`].
pub fn policy(kind: Kind, policy: &Json, budget: &Arc<Budget>) -> Vec<Cause> {
    policy::begin(budget, policy);
    let spec = &policy["spec"];
    let mut causes = Vec::new();
    if !matches!(text(spec, "/failurePolicy"), "Fail" | "Ignore") {
        causes.push(Cause::unsupported("spec.failurePolicy", &spec["failurePolicy"], &["Fail", "Ignore"]));
    }
    if !spec["paramKind"].is_null() {
        param_kind(&spec["paramKind"], &mut causes);
    }
    match &spec["matchConstraints"] {
        Json::Null => causes.push(Cause::required("spec.matchConstraints", "")),
        constraints => {
            matching(constraints, "spec.matchConstraints", &mut causes);
            if list(constraints, "/resourceRules").is_empty() {
                causes.push(Cause::required("spec.matchConstraints.resourceRules", ""));
            }
            if kind == Kind::Mutating {
                mutating::operations(constraints, "spec.matchConstraints", &mut causes);
            }
        }
    }
    let mut scope = policy::scope(!spec["paramKind"].is_null(), true);
    conditions(list(spec, "/matchConditions"), "spec.matchConditions", &scope, &mut causes);
    for (at, variable) in list(spec, "/variables").iter().enumerate() {
        let field = format!("spec.variables[{at}]");
        let name = text(variable, "/name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{field}.name"), ""));
        } else if !is_identifier(name) {
            let why = "must be a valid CEL identifier";
            causes.push(Cause::invalid(format!("{field}.name"), &json!(name), why));
        }
        expression(&variable["expression"], format!("{field}.expression"), &scope, &[], &mut causes);
        scope.variable(name);
    }
    match kind {
        Kind::Validating => validations(policy, &scope, &mut causes),
        Kind::Mutating => {
            scope.make_patches();
            mutating::spec(spec, &scope, &mut causes);
        }
    }
    causes
}

fn validations(policy: &Json, scope: &Scope<'_>, causes: &mut Vec<Cause>) {
    let spec = &policy["spec"];
    let (validations, annotations) = (list(spec, "/validations"), list(spec, "/auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        causes.extend(
            ["validations", "auditAnnotations"].map(|field| Cause::required(format!("spec.{field}"), why)),
        );
    }
    for (at, one) in validations.iter().enumerate() {
        validation(one, &format!("spec.validations[{at}]"), scope, causes);
    }
    for (at, one) in annotations.iter().enumerate() {
        let field = format!("spec.auditAnnotations[{at}]");
        let key = format!("{}/{}", text(policy, "/metadata/name"), text(one, "/key"));
        if let Some(why) = names::qualified(&key) {
            causes.push(Cause::invalid(format!("{field}.key"), &json!(key), &why));
        }
        let field = format!("{field}.valueExpression");
        expression(&one["valueExpression"], field, scope, &["string", "null_type"], causes);
    }
}

fn param_kind(kind: &Json, causes: &mut Vec<Cause>) {
    match text(kind, "/apiVersion") {
        "" => causes.push(Cause::required("spec.paramKind.apiVersion", "")),
        version if version.matches('/').count() > 1 => {
            let why = format!("unexpected GroupVersion string: {version}");
            causes.push(Cause::invalid("spec.paramKind.apiVersion", &json!(version), &why));
        }
        _ => {}
    }
    match text(kind, "/kind") {
        "" => causes.push(Cause::required("spec.paramKind.kind", "")),
        kind => {
            if let Some(why) = names::label(&kind.to_lowercase()) {
                let why = format!("may have mixed case, but should otherwise match: {why}");
                causes.push(Cause::invalid("spec.paramKind.kind", &json!(kind), &why));
            }
        }
    }
}

fn validation(validation: &Json, path: &str, scope: &Scope<'_>, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    expression(&validation["expression"], at("expression"), scope, &["bool"], causes);
    if !text(validation, "/messageExpression").is_empty() {
        let field = at("messageExpression");
        expression(&validation["messageExpression"], field, scope, &["string"], causes);
    }
    if let Some(message) = validation["message"].as_str().filter(|message| !message.is_empty()) {
        let why = match message.trim() {
            "" => Some("must be non-empty if specified"),
            message if message.contains('\n') => Some("must not contain line breaks"),
            _ => None,
        };
        causes.extend(why.map(|why| Cause::invalid(at("message"), &json!(message), why)));
    }
    let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    let reason = &validation["reason"];
    if !reason.is_null()
        && !reasons.contains(&reason.as_str().unwrap_or_default())
        && reason != "Unauthorized"
    {
        causes.push(Cause::unsupported(at("reason"), reason, &reasons));
    }
}

/// An expression that must be one of these types; none: of any.
fn expression(text: &Json, field: String, scope: &Scope<'_>, of: &[&str], causes: &mut Vec<Cause>) {
    let written = text.as_str().unwrap_or_default();
    if written.trim().is_empty() {
        return causes.push(Cause::required(field, "expression is not specified"));
    }
    match Program::compile(written, scope) {
        Err(error) => causes.push(Cause::invalid(field, text, &format!("compilation failed: {error}"))),
        // What is a bool or a text in the end may be of no known type here: the check is not as exact as cel-go's.
        Ok((_, checked)) if !of.is_empty() && !is_open(checked.of, of) && !of.contains(&checked.of) => {
            let wanted = match of {
                [one] => (*one).to_owned(),
                many => format!("one of [{}]", many.join(" ")),
            };
            let why = format!("must evaluate to {wanted} but got {}", checked.of);
            causes.push(Cause::invalid(field, text, &why));
        }
        Ok(_) => {}
    }
}

/// True for a type that may be one of these; of a list that is not known to be of something else, all that is known is that it is one.
fn is_open(found: &str, wanted: &[&str]) -> bool {
    found == "dyn" || (found == "list" && wanted.iter().any(|one| one.starts_with("list(")))
}

/// What is wrong with the `matchConditions` of a webhook. Recursive: call it on a thread of a [`crate::Runner`].
pub fn match_conditions(written: &[Json], path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    conditions(written, path, &policy::scope(false, false), &mut causes);
    causes
}

fn conditions(written: &[Json], path: &str, scope: &Scope<'_>, causes: &mut Vec<Cause>) {
    /// As kube-apiserver has it.
    const MOST: usize = 64;
    if written.len() > MOST {
        causes.push(Cause::too_many(path, written.len(), MOST));
    }
    let mut seen = HashSet::new();
    for (at, condition) in written.iter().take(MOST).enumerate() {
        let field = |name: &str| format!("{path}[{at}].{name}");
        expression(&condition["expression"], field("expression"), scope, &["bool"], causes);
        let name = text(condition, "/name");
        if name.is_empty() {
            causes.push(Cause::required(field("name"), ""));
        } else if let Some(why) = names::qualified(name) {
            causes.push(Cause::invalid(field("name"), &json!(name), &why));
        } else if !seen.insert(name) {
            causes.push(Cause::duplicate(field("name"), &json!(name)));
        }
    }
}

fn matching(matches: &Json, path: &str, causes: &mut Vec<Cause>) {
    let policy = &matches["matchPolicy"];
    if !matches!(policy.as_str(), Some("Equivalent" | "Exact")) {
        causes.push(Cause::unsupported(format!("{path}.matchPolicy"), policy, &["Equivalent", "Exact"]));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        let field_path = format!("{path}.{field}");
        causes.extend(LabelSelector::of_object(&matches[field], &field_path).err().into_iter().flatten());
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in list(matches, &format!("/{field}")).iter().enumerate() {
            rule_problems(rule, &format!("{path}.{field}[{at}]"), causes);
        }
    }
}

/// Everything that is wrong with a binding.
pub fn binding(kind: Kind, binding: &Json) -> Vec<Cause> {
    let spec = &binding["spec"];
    let mut causes = Vec::new();
    match text(spec, "/policyName") {
        "" => causes.push(Cause::required("spec.policyName", "")),
        name => {
            causes.extend(
                names::subdomain(name).map(|why| Cause::invalid("spec.policyName", &json!(name), &why)),
            );
        }
    }
    if !spec["paramRef"].is_null() {
        param_ref(&spec["paramRef"], &mut causes);
    }
    if !spec["matchResources"].is_null() {
        matching(&spec["matchResources"], "spec.matchResources", &mut causes);
    }
    if kind == Kind::Mutating {
        mutating::operations(&spec["matchResources"], "spec.matchResources", &mut causes);
        return causes;
    }
    let actions = list(spec, "/validationActions");
    if actions.is_empty() {
        causes.push(Cause::required("spec.validationActions", "at least one validation action is required"));
    }
    for (at, action) in actions.iter().enumerate() {
        let field = format!("spec.validationActions[{at}]");
        if !matches!(action.as_str(), Some("Audit" | "Deny" | "Warn")) {
            causes.push(Cause::unsupported(field, action, &["Audit", "Deny", "Warn"]));
        } else if actions[..at].contains(action) {
            causes.push(Cause::duplicate(field, action));
        }
    }
    if ["Deny", "Warn"].iter().all(|action| actions.iter().any(|one| one == action)) {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        causes.push(Cause::invalid("spec.validationActions", &json!(actions), why));
    }
    causes
}

fn param_ref(reference: &Json, causes: &mut Vec<Cause>) {
    let (name, selector) = (text(reference, "/name"), &reference["selector"]);
    let why = "name and selector are mutually exclusive";
    match (name.is_empty(), selector.is_null()) {
        (true, true) => {
            causes.push(Cause::required("spec.paramRef", "one of name or selector must be specified"));
        }
        (false, false) => {
            causes.extend(
                ["name", "selector"].map(|field| Cause::forbidden(format!("spec.paramRef.{field}"), why)),
            );
        }
        (true, false) => {
            let selector = LabelSelector::of_object(selector, "spec.paramRef.selector");
            causes.extend(selector.err().into_iter().flatten());
        }
        (false, true) => {}
    }
    let field = "spec.paramRef.parameterNotFoundAction";
    match reference["parameterNotFoundAction"].as_str() {
        None | Some("") => causes.push(Cause::required(field, "")),
        Some("Allow" | "Deny") => {}
        Some(other) => causes.push(Cause::unsupported(field, &json!(other), &["Deny", "Allow"])),
    }
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
