//! MutatingAdmissionPolicies on a request.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::budget::Budget;
use crate::made;
use crate::policy::{Mutation, Policy};
use crate::program::Program;
use crate::review::{Request, Variables, context, fulfils};

/// What an expression made of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// To be merged into it, as server-side apply merges.
    Apply(Json),
    /// RFC 6902.
    Patch(Json),
}

/// What a policy made of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutated {
    pub object: Json,
    /// Its conditions are fulfilled.
    pub applies: bool,
    /// What went wrong; the other mutations are made nevertheless.
    pub errors: Vec<String>,
}

/// Makes the mutations of a policy one after the other. `apply` makes a change to an object.
pub fn mutate(
    policy: &Policy,
    params: &Json,
    request: &Request,
    apply: &mut dyn FnMut(&Json, Change) -> Result<Json, String>,
    budget: &Arc<Budget>,
) -> Mutated {
    let mut request = request.clone();
    let mut mutated = Mutated { object: Json::Null, applies: true, errors: Vec::new() };
    match fulfils(&policy.conditions, &context(&request, params, budget), budget) {
        Ok(true) => {}
        Ok(false) => mutated.applies = false,
        Err(error) => {
            mutated.errors.push(error);
            mutated.applies = false;
        }
    }
    let mutations = policy.mutations.iter().filter(|_| mutated.applies && !request.object.is_null());
    for mutation in mutations.collect::<Vec<_>>() {
        let changed = evaluate(policy, params, &request, mutation, budget);
        match changed.and_then(|change| apply(&request.object, change)) {
            Ok(object) => request.object = object,
            Err(error) => mutated.errors.push(error),
        }
    }
    Mutated { object: request.object, ..mutated }
}

fn evaluate(
    policy: &Policy,
    params: &Json,
    request: &Request,
    mutation: &Mutation,
    budget: &Arc<Budget>,
) -> Result<Change, String> {
    let base = context(request, params, budget);
    let variables = Variables::new(policy, &base, budget);
    let mut scope = base.new_inner_scope();
    scope.set_variable_resolver(&variables);
    let (Mutation::Apply(program) | Mutation::Patch(program)) = mutation;
    let program: &Program = program.as_ref().map_err(ToString::to_string)?;
    let value = program.value(&scope, budget).map_err(|error| {
        let error = variables.failure().unwrap_or(error);
        format!("expression '{}' resulted in error: {error}", program.text())
    })?;
    match mutation {
        Mutation::Apply(_) => made::object(&value).map(Change::Apply),
        Mutation::Patch(_) => made::patch(&value).map(Change::Patch),
    }
}
