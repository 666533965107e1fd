//! All roles and bindings, ready to be asked.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::rule::{Attributes, Rule, rules};
use crate::object::{list, text};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub groups: &'a [String],
}

/// The kinds that the policy is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    pub const ALL: [(&'static str, Kind); 4] = [
        ("roles", Kind::Role),
        ("clusterroles", Kind::ClusterRole),
        ("rolebindings", Kind::RoleBinding),
        ("clusterrolebindings", Kind::ClusterRoleBinding),
    ];

    /// The kind of a resource of [`super::GROUP`].
    pub fn of_resource(plural: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(own, _)| *own == plural).map(|(_, kind)| *kind)
    }

    pub fn is_binding(self) -> bool {
        matches!(self, Kind::RoleBinding | Kind::ClusterRoleBinding)
    }

    fn as_str(self) -> &'static str {
        match self {
            Kind::Role => "Role",
            Kind::ClusterRole => "ClusterRole",
            Kind::RoleBinding => "RoleBinding",
            Kind::ClusterRoleBinding => "ClusterRoleBinding",
        }
    }
}

/// Namespace and name; the namespace is empty for what is of the cluster.
type Place = (String, String);

#[derive(Debug)]
struct Binding {
    place: Place,
    role: Kind,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(String),
    Group(String),
}

impl Holder {
    fn told(&self) -> String {
        match self {
            // A service account is named as one, also where a binding names its user.
            Holder::User(name) => {
                match name.strip_prefix("system:serviceaccount:").and_then(|own| own.split_once(':')) {
                    Some((namespace, name)) => format!("ServiceAccount {:?}", format!("{name}/{namespace}")),
                    None => format!("User {name:?}"),
                }
            }
            Holder::Group(name) => format!("Group {name:?}"),
        }
    }
}

/// Empty gives nobody anything.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<Place, Vec<Rule>>,
    /// What each binding holds, so that it can be taken out again.
    bindings: HashMap<Place, Vec<Holder>>,
    by_holder: HashMap<Holder, Vec<Arc<Binding>>>,
}

impl Policy {
    /// Takes note of an object as it is now; `None`: there is none of this name any more.
    pub fn set(&mut self, kind: Kind, namespace: &str, name: &str, object: Option<&Value>) {
        let place = (namespace.to_owned(), name.to_owned());
        if !kind.is_binding() {
            match object {
                Some(role) => drop(self.roles.insert(place, rules(role))),
                None => drop(self.roles.remove(&place)),
            }
            return;
        }
        for holder in self.bindings.remove(&place).unwrap_or_default() {
            if let Some(held) = self.by_holder.get_mut(&holder) {
                held.retain(|binding| binding.place != place);
                if held.is_empty() {
                    self.by_holder.remove(&holder);
                }
            }
        }
        let Some(object) = object else { return };
        let role = match text(object, "/roleRef/kind") {
            "ClusterRole" => Kind::ClusterRole,
            "Role" if kind == Kind::RoleBinding => Kind::Role,
            _ => return,
        };
        let name = text(object, "/roleRef/name").to_owned();
        let binding = Arc::new(Binding { place: place.clone(), role, name });
        let holders: Vec<Holder> =
            list(object, "/subjects").iter().filter_map(|one| holder(one, namespace)).collect();
        for holder in &holders {
            let held = self.by_holder.entry(holder.clone()).or_default();
            if !held.iter().any(|other| other.place == place) {
                held.push(binding.clone());
            }
        }
        self.bindings.insert(place, holders);
    }

    /// Why `who` may do this, in the words of kube-apiserver; `None`: no role gives it.
    pub fn decide(&self, who: Subject<'_>, asked: &Attributes<'_>) -> Option<String> {
        let namespace = asked.what.namespace();
        self.held(who, namespace).find(|(_, _, rules)| rules.iter().any(|rule| rule.allows(asked))).map(
            |(holder, binding, _)| {
                let kind = match binding.place.0.is_empty() {
                    true => Kind::ClusterRoleBinding,
                    false => Kind::RoleBinding,
                };
                let (of, name) = &binding.place;
                let place = if of.is_empty() { name.clone() } else { format!("{name}/{of}") };
                format!(
                    "RBAC: allowed by {} {place:?} of {} {:?} to {}",
                    kind.as_str(),
                    binding.role.as_str(),
                    binding.name,
                    holder.told()
                )
            },
        )
    }

    /// All that `who` is given in a namespace, and everywhere.
    pub fn rules_of(&self, who: Subject<'_>, namespace: &str) -> Vec<Rule> {
        self.held(who, namespace).flat_map(|(_, _, rules)| rules).cloned().collect()
    }

    /// The rules of a role that a binding in `namespace` names.
    pub fn role(&self, kind: Kind, namespace: &str, name: &str) -> Option<&[Rule]> {
        let namespace = if kind == Kind::ClusterRole { "" } else { namespace };
        self.roles.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice)
    }

    fn held<'a>(
        &'a self,
        who: Subject<'a>,
        namespace: &'a str,
    ) -> impl Iterator<Item = (Holder, &'a Binding, &'a [Rule])> {
        let groups = who.groups.iter().map(|group| Holder::Group(group.clone()));
        let holders = std::iter::once(Holder::User(who.name.to_owned())).chain(groups);
        holders.flat_map(move |holder| {
            let bindings = self.by_holder.get(&holder).into_iter().flatten();
            let counting = bindings.filter(move |binding| {
                binding.place.0.is_empty() || !namespace.is_empty() && binding.place.0 == namespace
            });
            counting.filter_map(move |binding| {
                let rules = self.role(binding.role, &binding.place.0, &binding.name)?;
                Some((holder.clone(), binding.as_ref(), rules))
            })
        })
    }
}

/// Whom a subject of a binding names. Service accounts are users; one without a namespace is of the binding's.
fn holder(subject: &Value, namespace: &str) -> Option<Holder> {
    let name = text(subject, "/name").to_owned();
    match text(subject, "/kind") {
        "User" => Some(Holder::User(name)),
        "Group" => Some(Holder::Group(name)),
        "ServiceAccount" => {
            let own = text(subject, "/namespace");
            let namespace = if own.is_empty() { namespace } else { own };
            Some(Holder::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}
