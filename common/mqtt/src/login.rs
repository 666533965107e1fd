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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_printed() {
        let login = Login { username: "app".into(), password: "s3cret".into() };
        assert_eq!(format!("{login:?}"), "Login { username: \"app\", .. }");
    }
}
