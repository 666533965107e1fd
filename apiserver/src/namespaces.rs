//! The namespaces that are there: each new object asks for its own.
//!
//! Kept by storage's commit hook, in commit order, so nothing is made in a namespace whose deletion has been answered.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use apimachinery::object;
use serde_json::Value;

/// The key of namespaces.
pub(crate) const NAMESPACES: &str = "namespaces";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    Live,
    /// Nothing new is made in it.
    Terminating,
}

#[derive(Default)]
pub(crate) struct Namespaces(RwLock<HashMap<String, State>>);

impl Namespaces {
    /// Takes note of a namespace as it is stored; `None`: it is gone.
    pub(crate) fn set(&self, name: &str, namespace: Option<&Value>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match namespace {
            None => drop(known.remove(name)),
            Some(namespace) => {
                let state = if object::deleting(namespace) { State::Terminating } else { State::Live };
                known.insert(name.to_owned(), state);
            }
        }
    }

    pub(crate) fn state(&self, name: &str) -> State {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).copied().unwrap_or(State::Missing)
    }
}
