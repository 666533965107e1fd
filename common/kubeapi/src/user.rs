//! Who a request is from.

use std::collections::BTreeMap;

const MASTERS: &str = "system:masters";
/// The group of all users that showed who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Their name.
pub const ANONYMOUS: &str = "system:anonymous";

/// Beside [`AUTHENTICATED`].
pub fn service_account_groups(namespace: &str) -> [String; 2] {
    ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// A user, with what is said of him.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What else is said of the user; keys are in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// True for the group that may do everything.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

/// Who asks, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Whose rights count.
    pub user: User,
    /// Who asks to be taken for that user (`Impersonate-User`); `None`: he himself.
    pub impersonator: Option<User>,
}

impl From<User> for Asker {
    fn from(user: User) -> Asker {
        Asker { user, impersonator: None }
    }
}
