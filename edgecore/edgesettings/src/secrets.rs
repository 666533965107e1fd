//! `database.secretsKeyFile` -> the key that seals stored secrets.

use std::path::{Path, PathBuf};

use api::config::edgecore::Database;
use daemon::errors::describe;

use super::Checker;
use metamanager::sealed;

const KEY: &str = "database.secretsKeyFile";

/// What is there is looked at; what is missing is made by the start, not by a check.
pub(super) fn key(file: &str, checker: &mut Checker) -> Option<PathBuf> {
    let path = Path::new(file);
    if file.is_empty() {
        return None;
    }
    if !path.is_absolute() {
        checker.problem(KEY, format!("{file:?} is not an absolute path"));
    } else if let Err(error) = sealed::key::read(path) {
        checker.problem(KEY, describe(&error));
    }
    Some(path.to_owned())
}

/// A key beside what it seals protects nothing that is copied together.
pub(super) fn warning(database: &Database) -> Option<(String, String)> {
    let key = Path::new(&database.secrets_key_file);
    let folder = Path::new(&database.data_source).parent()?;
    let text = "lies in the folder of the database: who copies that folder can read the secrets; keep the key elsewhere";
    key.starts_with(folder).then(|| (KEY.to_owned(), text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_bad_key_is_refused_when_the_file_is_checked_and_a_missing_one_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let file = path.to_string_lossy().into_owned();
        let check = |file: &str| {
            let mut checker = Checker { problems: Vec::new() };
            let key = key(file, &mut checker);
            (key, checker.problems.join(" "))
        };
        assert_eq!(check(""), (None, String::new()));
        assert_eq!(check(&file), (Some(path.clone()), String::new()));
        assert!(!path.exists());
        assert!(check("key").1.starts_with("database.secretsKeyFile: \"key\" is not an absolute path"));
        std::fs::write(&path, "no key").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let problem = check(&file).1;
        assert!(problem.starts_with("database.secretsKeyFile: ") && problem.contains(&file), "{problem}");
        std::fs::remove_file(&path).unwrap();
        sealed::key::read_or_make(&path).unwrap();
        assert_eq!(check(&file), (Some(path.clone()), String::new()));
    }

    #[test]
    fn a_key_beside_the_database_is_warned_of() {
        let warned = |file: &str| {
            let database = Database { secrets_key_file: file.into(), ..Database::default() };
            warning(&database).is_some()
        };
        assert!(warned("/var/lib/kubeedge/key"));
        assert!(
            !warned("") && !warned("/run/credentials/edgecore.service/key") && !warned("/etc/kubeedge/key")
        );
    }
}
