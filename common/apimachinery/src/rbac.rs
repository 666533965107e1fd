//! Role-based access control (`rbac.authorization.k8s.io/v1`): what roles give, whom bindings give it to, and what nobody may pass
//! on. Behaviour is that of `pkg/registry/rbac/validation` and `plugin/pkg/auth/authorizer/rbac`.
//!
//! ```text
//! roles, bindings --set--> Policy --decide(Subject, Attributes)--> the reason, or none
//! ```

mod aggregation;
pub mod defaults;
mod policy;
mod problems;
mod rule;
#[cfg(test)]
mod tests;

pub use aggregation::aggregated;
pub use policy::{Kind, Policy, Subject};
pub use problems::{complete, problems, roles_changed};
pub use rule::{Attributes, Rule, What, rules};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
