//! A name and password that cannot be printed by accident.

/// What a client says in CONNECT. Debug shows the name only.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Login {
    /// Compares without telling by the time taken how much of the password was right.
    pub(crate) fn admits(&self, username: &str, password: &str) -> bool {
        same(self.username.as_bytes(), username.as_bytes())
            & same(self.password.as_bytes(), password.as_bytes())
    }
}

fn same(ours: &[u8], theirs: &[u8]) -> bool {
    let differing = ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b));
    (ours.len() == theirs.len()) & (differing == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_name_and_password_are_admitted_and_the_password_is_not_printed() {
        let login = Login { username: "app".into(), password: "s3cret".into() };
        assert!(login.admits("app", "s3cret"));
        for (name, password) in [("app", "s3cres"), ("app", "s3cre"), ("", "s3cret"), ("app", "")] {
            assert!(!login.admits(name, password), "{name}/{password}");
        }
        assert!(!format!("{login:?}").contains("s3cret"));
    }
}
