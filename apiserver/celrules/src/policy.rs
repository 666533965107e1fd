//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: compiled.

use std::sync::Arc;

use apimachinery::object::{list, text};
use serde_json::Value as Json;

use crate::budget::Budget;
use crate::program::{Program, ProgramError};
use crate::types::{Scope, Type};

/// What kinds and resources have.
const KIND: &[&str] = &["group", "version", "kind"];
const RESOURCE: &[&str] = &["group", "version", "resource"];

/// `request`, as AdmissionRequest has it.
const REQUEST: &[(&str, &[&str])] = &[
    ("kind", KIND),
    ("resource", RESOURCE),
    ("subResource", &[]),
    ("requestKind", KIND),
    ("requestResource", RESOURCE),
    ("requestSubResource", &[]),
    ("name", &[]),
    ("namespace", &[]),
    ("operation", &[]),
    ("userInfo", &["username", "uid", "groups", "extra"]),
    ("dryRun", &[]),
    ("options", &[]),
];

/// `namespaceObject`.
const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "UID",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "finalizers",
];
const NAMESPACE: &[(&str, &[&str])] =
    &[("metadata", METADATA), ("spec", &["finalizers"]), ("status", &["phase"])];

/// What expressions about a request may name.
pub(crate) fn scope(has_params: bool, has_namespace: bool) -> Scope<'static> {
    let mut scope =
        Scope::new([("object", Type::Dyn), ("oldObject", Type::Dyn), ("request", Type::Fields(REQUEST))]);
    if has_namespace {
        scope.name("namespaceObject", Type::Fields(NAMESPACE));
    }
    if has_params {
        scope.name("params", Type::Dyn);
    }
    scope
}

/// An expression that a request must fulfil to be looked at.
#[derive(Debug)]
pub struct Condition {
    pub name: String,
    pub(crate) program: Result<Program, ProgramError>,
}

/// The `matchConditions` of a webhook. Recursive: call it on a thread of a [`crate::Runner`].
pub fn conditions(written: &[Json]) -> Vec<Condition> {
    read_conditions(written, &scope(false, false))
}

fn read_conditions(written: &[Json], scope: &Scope<'_>) -> Vec<Condition> {
    let read = |condition: &Json| Condition {
        name: text(condition, "/name").to_owned(),
        program: Program::compile(text(condition, "/expression"), scope).map(|(program, _)| program),
    };
    written.iter().map(read).collect()
}

/// What an object must fulfil.
#[derive(Debug)]
pub(crate) struct Validation {
    pub program: Result<Program, ProgramError>,
    pub message: String,
    pub message_program: Option<Program>,
    /// Empty: `Invalid`.
    pub reason: String,
}

/// How a policy changes an object.
#[derive(Debug)]
pub(crate) enum Mutation {
    /// An apply configuration, which is merged into it.
    Apply(Result<Program, ProgramError>),
    /// A JSON patch.
    Patch(Result<Program, ProgramError>),
}

/// A policy.
#[derive(Debug)]
pub struct Policy {
    pub name: String,
    /// `failurePolicy: Ignore`: what cannot be evaluated counts as fulfilled.
    pub fails_open: bool,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) variables: Vec<(String, Result<Program, ProgramError>)>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) mutations: Vec<Mutation>,
    /// Keys and values of the audit log.
    pub(crate) annotations: Vec<(String, Result<Program, ProgramError>)>,
}

impl Policy {
    /// Compiles a policy that was checked. Recursive: call it on a thread of a [`crate::Runner`].
    pub fn compile(policy: &Json) -> Policy {
        let spec = &policy["spec"];
        let mut scope = scope(!spec["paramKind"].is_null(), true);
        let conditions = read_conditions(list(spec, "/matchConditions"), &scope);
        let mut variables = Vec::new();
        for variable in list(spec, "/variables") {
            let (name, expression) = (text(variable, "/name"), text(variable, "/expression"));
            let compiled = Program::compile(expression, &scope).map(|(program, _)| program);
            variables.push((name.to_owned(), compiled));
            scope.variable(name);
        }
        scope.make_patches();
        let compile = |text: &str| Program::compile(text, &scope).map(|(program, _)| program);
        let validation = |validation: &Json| Validation {
            program: compile(text(validation, "/expression")),
            message: text(validation, "/message").trim().to_owned(),
            message_program: Some(text(validation, "/messageExpression"))
                .filter(|text| !text.is_empty())
                .and_then(|text| compile(text).ok()),
            reason: text(validation, "/reason").to_owned(),
        };
        let mutation = |mutation: &Json| match text(mutation, "/patchType") {
            "JSONPatch" => Mutation::Patch(compile(text(mutation, "/jsonPatch/expression"))),
            _ => Mutation::Apply(compile(text(mutation, "/applyConfiguration/expression"))),
        };
        Policy {
            name: text(policy, "/metadata/name").to_owned(),
            fails_open: text(spec, "/failurePolicy") == "Ignore",
            conditions,
            validations: list(spec, "/validations").iter().map(validation).collect(),
            mutations: list(spec, "/mutations").iter().map(mutation).collect(),
            annotations: list(spec, "/auditAnnotations")
                .iter()
                .map(|one| (text(one, "/key").to_owned(), compile(text(one, "/valueExpression"))))
                .collect(),
            variables,
        }
    }
}

/// Marks what is compiled now, so that who waits for it can be told.
pub(crate) fn begin(budget: &Arc<Budget>, policy: &Json) {
    budget.begin(&format!("of policy {}", text(policy, "/metadata/name")));
}
