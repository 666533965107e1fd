//! The roles and bindings that are stored, ready to be asked.
//!
//! Kept by storage's commit hook, in commit order, so a right counts, or ends, as soon as the change is answered.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use apimachinery::rbac::{self, Attributes, Kind, Policy, Rule, Subject};
use kubeapi::user::User;
use serde_json::Value;

#[derive(Default)]
pub(crate) struct Roles(RwLock<Policy>);

impl Roles {
    fn read(&self) -> RwLockReadGuard<'_, Policy> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an object as it is now; `None`: there is none of this name any more.
    pub(crate) fn set(&self, kind: Kind, namespace: &str, name: &str, object: Option<&Value>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).set(kind, namespace, name, object);
    }

    /// Why `user` may do this; `None`: he may not.
    pub(crate) fn decide(&self, user: &User, asked: &Attributes<'_>) -> Option<String> {
        match user.is_master() {
            // A cluster without roles can be mended by its administrator.
            true => Some(String::new()),
            false => self.read().decide(subject(user), asked),
        }
    }

    /// All that `user` is given in a namespace, and everywhere.
    pub(crate) fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.read().rules_of(subject(user), namespace)
    }

    /// The rules of a role that a binding in `namespace` names.
    pub(crate) fn role(&self, kind: Kind, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.read().role(kind, namespace, name).map(<[Rule]>::to_vec)
    }
}

fn subject(user: &User) -> Subject<'_> {
    Subject { name: &user.name, groups: &user.groups }
}

/// The kind of the objects with this key in storage, and their resource.
pub(crate) fn kind(resource: &str) -> Option<Kind> {
    Kind::of_resource(resource.strip_suffix(rbac::GROUP)?.strip_suffix('.')?)
}

/// The key of a kind's objects in storage.
pub(crate) fn key(plural: &str) -> String {
    format!("{plural}.{}", rbac::GROUP)
}
