//! Policies on a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube_cel::cel::context::VariableResolver;
use kube_cel::cel::{Context, Value};
use serde_json::Value as Json;

use crate::budget::Budget;
use crate::custom::message;
use crate::policy::{Condition, Policy, Validation};
use crate::program::variable;
use crate::values::untyped;

/// What expressions are about.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Null when it is deleted.
    pub object: Json,
    /// Null when it is new.
    pub old_object: Json,
    /// AdmissionRequest, without the objects.
    pub request: Json,
    /// The Namespace of the object; null for what is in none.
    pub namespace: Json,
}

/// Where a policy is bound.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    pub name: String,
    /// One evaluation with each; a policy without parameters has one that is null.
    pub params: Vec<Json>,
}

/// What a policy says about a request that does not fulfil it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub policy: String,
    pub binding: String,
    /// The number of the validation.
    pub expression: usize,
    pub message: String,
    /// As the policy has it; empty: `Invalid`.
    pub reason: String,
}

/// What a policy says, of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub decisions: Vec<Decision>,
    /// For the audit log: key and value.
    pub annotations: Vec<(String, String)>,
}

pub(crate) fn context(request: &Request, params: &Json, budget: &Arc<Budget>) -> Context<'static> {
    let mut context = budget.context();
    for (name, value) in [
        ("object", &request.object),
        ("oldObject", &request.old_object),
        ("request", &request.request),
        ("namespaceObject", &request.namespace),
        ("params", params),
    ] {
        context.add_variable_from_value(name, untyped(value));
    }
    context
}

/// True if a request fulfils all conditions.
///
/// # Errors
/// The first that cannot be evaluated, if none is false.
pub fn matches(conditions: &[Condition], request: &Request, budget: &Arc<Budget>) -> Result<bool, String> {
    if conditions.is_empty() {
        return Ok(true);
    }
    fulfils(conditions, &context(request, &Json::Null, budget), budget)
}

pub(crate) fn fulfils(
    conditions: &[Condition],
    context: &Context<'_>,
    budget: &Budget,
) -> Result<bool, String> {
    let mut failed = None;
    for condition in conditions {
        let result = match &condition.program {
            Ok(program) => program.value(context, budget),
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(_) => {
                failed = failed.or_else(|| Some(format!("match condition {:?} is no bool", condition.name)))
            }
            Err(error) => {
                let text = condition.program.as_ref().map(|program| program.text()).unwrap_or_default();
                failed = failed.or_else(|| Some(format!("expression '{text}' resulted in error: {error}")));
            }
        }
    }
    failed.map_or(Ok(true), Err)
}

/// What a policy says of a request, as it is bound. `Ignore`d failures are left out.
pub fn review(policy: &Policy, binding: &Binding, request: &Request, budget: &Arc<Budget>) -> Outcome {
    let mut outcome = Outcome::default();
    for params in &binding.params {
        with(policy, binding, &context(request, params, budget), budget, &mut outcome);
    }
    outcome
}

fn with(policy: &Policy, binding: &Binding, base: &Context<'_>, budget: &Arc<Budget>, outcome: &mut Outcome) {
    let decision = |expression: usize, message: String, reason: &str| Decision {
        policy: policy.name.clone(),
        binding: binding.name.clone(),
        expression,
        message,
        reason: reason.to_owned(),
    };
    match fulfils(&policy.conditions, base, budget) {
        Ok(true) => {}
        Ok(false) => return,
        Err(_) if policy.fails_open => return,
        Err(error) => return outcome.decisions.push(decision(0, error, "")),
    }
    let variables = Variables::new(policy, base, budget);
    let mut scope = base.new_inner_scope();
    scope.set_variable_resolver(&variables);
    for (number, validation) in policy.validations.iter().enumerate() {
        let text = validation.program.as_ref().map(|program| program.text()).unwrap_or_default();
        let result = match &validation.program {
            Ok(program) => program.value(&scope, budget),
            Err(error) => Err(error.to_string()),
        };
        let why = match result {
            Ok(Value::Bool(true)) => continue,
            Ok(Value::Bool(false)) => said(validation, text, &scope, budget),
            _ if policy.fails_open => continue,
            Ok(_) => format!("expression '{text}' resulted in error: it is no bool"),
            Err(error) => {
                let error = variables.failure().unwrap_or(error);
                format!("expression '{text}' resulted in error: {error}")
            }
        };
        outcome.decisions.push(decision(number, why, &validation.reason));
    }
    for (key, program) in &policy.annotations {
        if let Ok(Ok(Value::String(value))) = program.as_ref().map(|program| program.value(&scope, budget)) {
            outcome.annotations.push((format!("{}/{key}", policy.name), value.to_string()));
        }
    }
}

fn said(validation: &Validation, text: &str, scope: &Context<'_>, budget: &Budget) -> String {
    let made = validation.message_program.as_ref().and_then(|program| program.value(scope, budget).ok());
    let fallback = || match validation.message.is_empty() {
        true => format!("failed expression: {text}"),
        false => validation.message.clone(),
    };
    made.and_then(message).unwrap_or_else(fallback)
}

/// A policy's variables, evaluated when they are looked up for the first time.
pub(crate) struct Variables<'a> {
    policy: &'a Policy,
    base: &'a Context<'a>,
    budget: &'a Arc<Budget>,
    known: Mutex<BTreeMap<String, Result<Value, String>>>,
}

impl<'a> Variables<'a> {
    pub(crate) fn new(policy: &'a Policy, base: &'a Context<'a>, budget: &'a Arc<Budget>) -> Variables<'a> {
        Variables { policy, base, budget, known: Mutex::default() }
    }
}

impl Variables<'_> {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Result<Value, String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a variable has no value.
    pub(crate) fn failure(&self) -> Option<String> {
        self.known().iter().find_map(|(name, value)| {
            let error = value.as_ref().err()?;
            Some(format!("{name}: {error}"))
        })
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve(&self, name: &str) -> Option<Value> {
        if !name.starts_with("variables.") {
            return None;
        }
        if let Some(known) = self.known().get(name) {
            return known.clone().ok();
        }
        let (_, program) = self.policy.variables.iter().rev().find(|(of, _)| variable(of) == name)?;
        let mut scope = self.base.new_inner_scope();
        scope.set_variable_resolver(self);
        let value = match program {
            Ok(program) => program.value(&scope, self.budget),
            Err(error) => Err(error.to_string()),
        };
        self.known().insert(name.to_owned(), value.clone());
        value.ok()
    }
}
