//! Rules in CEL, as a Kubernetes API server has them: `x-kubernetes-validations` of custom resource definitions,
//! ValidatingAdmissionPolicies, MutatingAdmissionPolicies, `matchConditions` of webhooks.
//!
//! ```text
//! text --program--> Program --types--> refused: fields that are not there, loops without an end
//! schema --schema--> Schema --custom--> causes      policy --policy--> Policy --review--> decisions
//!                                                                            --mutate--> the object, changed
//! ```
//!
//! Everything is a pure function over JSON, except [`Runner`], which runs it on threads of its own: with room on the stack for
//! what is deeply nested, with a deadline that [`Budget`] keeps inside of loops, and at most four at once. The library evaluates
//! and knows Kubernetes' functions; it has neither a type checker nor limits, which are here.

mod budget;
mod custom;
mod definition;
mod functions;
mod made;
mod mutate;
mod policy;
mod problems;
mod program;
mod review;
mod runner;
mod schema;
mod sizes;
#[cfg(test)]
mod tests;
mod types;
mod values;

pub use budget::Budget;
pub use custom::{Verdict, check, unchecked};
pub use definition::problems as definition_problems;
pub use mutate::{Change, Mutated, mutate};
pub use policy::{Condition, Policy, conditions};
pub use problems::{
    Kind, binding as binding_problems, complete, match_conditions as condition_problems,
    policy as policy_problems,
};
pub use program::{Program, ProgramError};
pub use review::{Binding, Decision, Outcome, Request, matches, review};
pub use runner::{Late, Runner};
pub use schema::{Schema, has_rules};
