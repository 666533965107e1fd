//! Nobody gives others more rights than he has (`pkg/registry/rbac/*/policybased`), or approves or signs what he has no right to
//! (`plugin/pkg/admission/certificates`).

use apimachinery::object::text;
use apimachinery::rbac::{self, Attributes, Kind, Rule, What};
use apimachinery::{Cause, Status};
use kubeapi::target::Target;
use kubeapi::user::User;
use serde_json::Value;

use crate::authorise::authorise;
use crate::context::Context;

/// The kind, if the target is a role or a binding.
fn kind(target: &Target) -> Option<Kind> {
    let resource = &target.served.resource;
    Kind::of_resource(&resource.plural).filter(|_| resource.group == rbac::GROUP)
}

/// What is wrong with a role or binding.
pub(super) fn problems(group: &str, plural: &str, value: &Value) -> Vec<Cause> {
    let kind = Kind::of_resource(plural).filter(|_| group == rbac::GROUP);
    kind.map(|kind| rbac::problems(kind, value)).unwrap_or_default()
}

/// 403 if `user` may not make the object be so.
pub(crate) fn check(
    context: &Context,
    user: &User,
    target: &Target,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), Status> {
    let Some(kind) = kind(target).filter(|_| !user.is_master()) else { return Ok(()) };
    let is_same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
    let (granted, verb, what) = match kind.is_binding() {
        false if is_same("rules") && is_same("aggregationRule") => return Ok(()),
        true if is_same("subjects") && is_same("roleRef") => return Ok(()),
        false => {
            let mut rules = rbac::rules(new);
            if new.get("aggregationRule").is_some_and(Value::is_object) {
                // Whatever it will be made of.
                let all = |field: &str| Rule::read(&serde_json::json!({"verbs": ["*"], field: ["*"]}));
                let groups = Rule { groups: vec!["*".to_owned()], ..all("resources") };
                rules.extend([groups, all("nonResourceURLs")]);
            }
            let resource = target.served.resource.plural.as_str();
            (Some(rules), "escalate", role(resource, &target.namespace, &target.name))
        }
        true => {
            let name = text(new, "/roleRef/name");
            let (of, resource) = match text(new, "/roleRef/kind") {
                "Role" => (Kind::Role, "roles"),
                _ => (Kind::ClusterRole, "clusterroles"),
            };
            (context.roles.role(of, &target.namespace, name), "bind", role(resource, &target.namespace, name))
        }
    };
    if context.roles.decide(user, &Attributes::new(verb, what)).is_some() {
        return Ok(());
    }
    let What::Resource { resource, name, .. } = what else { return Ok(()) };
    let granted = granted.ok_or_else(|| Status::not_found(rbac::GROUP, resource, name))?;
    let owned = context.roles.rules_of(user, &target.namespace);
    let beyond: Vec<String> =
        granted.iter().flat_map(|rule| rule.beyond(&owned)).map(|rule| rule.value().to_string()).collect();
    if beyond.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        beyond.join("\n")
    );
    let own = &target.served.resource;
    Err(Status::refused(&own.group, &own.plural, &target.name, &why))
}

fn role<'a>(resource: &'a str, namespace: &'a str, name: &'a str) -> What<'a> {
    What::Resource { group: rbac::GROUP, resource, subresource: "", namespace, name }
}

/// 403 if `user` may not do `verb` (approve, sign) for the signer that a signing request is for.
pub(crate) fn signer(context: &Context, user: &User, verb: &str, request: &Value) -> Result<(), Status> {
    let name = text(request, "/spec/signerName");
    let domain = format!("{}/*", name.split('/').next().unwrap_or_default());
    let asked = |name| {
        let what = What::Resource {
            group: "certificates.k8s.io",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
        };
        Attributes::new(verb, what)
    };
    match context.roles.decide(user, &asked(&domain)) {
        Some(_) => Ok(()),
        None => authorise(context, user, &asked(name)),
    }
}
