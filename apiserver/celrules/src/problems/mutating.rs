//! What MutatingAdmissionPolicies have of their own.

use apimachinery::Cause;
use apimachinery::object::{list, text};
use serde_json::{Value as Json, json};

use super::expression;
use crate::types::Scope;

/// What is deleted is not changed.
const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
/// Types of patches, with the field and the type of each.
const PATCHES: [(&str, &str, &str); 2] =
    [("ApplyConfiguration", "applyConfiguration", "Object"), ("JSONPatch", "jsonPatch", "list(JSONPatch)")];

/// Rules for what cannot be changed.
pub(super) fn operations(matches: &Json, path: &str, causes: &mut Vec<Cause>) {
    for rule in list(matches, "/resourceRules") {
        for operation in list(rule, "/operations") {
            if !OPERATIONS.iter().any(|known| operation == known) {
                let field = format!("{path}.resourceRules.operations");
                causes.push(Cause::unsupported(field, operation, &OPERATIONS));
            }
        }
    }
}

/// Mutations, and whether they are made again.
pub(super) fn spec(spec: &Json, scope: &Scope<'_>, causes: &mut Vec<Cause>) {
    let mutations = list(spec, "/mutations");
    if mutations.is_empty() {
        causes.push(Cause::required("spec.mutations", "mutations must contain at least one item"));
    }
    for (at, one) in mutations.iter().enumerate() {
        mutation(one, &format!("spec.mutations[{at}]"), scope, causes);
    }
    match text(spec, "/reinvocationPolicy") {
        "" => causes.push(Cause::required("spec.reinvocationPolicy", "")),
        "Never" | "IfNeeded" => {}
        other => {
            causes.push(Cause::unsupported("spec.reinvocationPolicy", &json!(other), &["IfNeeded", "Never"]));
        }
    }
}

fn mutation(mutation: &Json, path: &str, scope: &Scope<'_>, causes: &mut Vec<Cause>) {
    let name = text(mutation, "/patchType");
    let patch = PATCHES.iter().find(|(known, ..)| *known == name);
    let Some((_, own, of)) = patch else {
        let field = format!("{path}.patchType");
        return causes.push(match name {
            "" => Cause::required(field, ""),
            _ => Cause::unsupported(field, &json!(name), &PATCHES.map(|(known, ..)| known)),
        });
    };
    for (_, field, _) in &PATCHES {
        let place = format!("{path}.{field}");
        match (field == own, mutation[*field].is_null()) {
            (true, true) => {
                causes.push(Cause::required(place, &format!("must be specified when patchType is {name}")));
            }
            (true, false) => {
                let place = format!("{place}.expression");
                if text(&mutation[*field], "/expression").trim().is_empty() {
                    causes.push(Cause::required(place, ""));
                    continue;
                }
                expression(&mutation[*field]["expression"], place, scope, &[*of], causes);
            }
            (false, false) => {
                let why = format!("must not be specified when patchType is {name}");
                causes.push(Cause::invalid(place, &json!(format!("{{{field}}}")), &why));
            }
            (false, true) => {}
        }
    }
}
