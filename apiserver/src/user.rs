//! Who a request is from.

use std::collections::BTreeMap;

pub(crate) const MASTERS: &str = "system:masters";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What else is said of the user; keys are in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}
