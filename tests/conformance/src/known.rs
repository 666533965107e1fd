//! Cases that the embedded API server does not pass yet: `known.yaml`, group by group the names of cases and the reasons.

use std::collections::BTreeMap;
use std::path::Path;

use crate::case::{Group, LoadError};

/// Cases that are known to fail.
#[derive(Default)]
pub struct Known {
    reasons: BTreeMap<String, BTreeMap<String, String>>,
}

impl Known {
    /// Those of the embedded API server.
    ///
    /// # Errors
    /// [`LoadError`]: the file cannot be read.
    pub fn load() -> Result<Known, LoadError> {
        Known::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("known.yaml"))
    }

    /// Those of the embedded API server, and of what is in front of it.
    ///
    /// # Errors
    /// As for [`Known::load`].
    pub fn with(path: &Path) -> Result<Known, LoadError> {
        let mut known = Known::load()?;
        for (group, cases) in Known::of(path)?.reasons {
            known.reasons.entry(group).or_default().extend(cases);
        }
        Ok(known)
    }

    fn of(path: &Path) -> Result<Known, LoadError> {
        let path = path.to_owned();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| LoadError::Read { path: path.clone(), source })?;
        let value = apimachinery::yaml::parse(&text)
            .map_err(|source| LoadError::Yaml { path: path.clone(), source })?;
        let form = |source| LoadError::Form { path: path.clone(), case: "all".to_owned(), source };
        let reasons: Option<_> = serde_json::from_value(value).map_err(form)?;
        Ok(Known { reasons: reasons.unwrap_or_default() })
    }

    /// Why a case is known to fail.
    pub fn reason(&self, group: &str, case: &str) -> Option<&str> {
        self.reasons.get(group)?.get(case).map(String::as_str)
    }

    /// Listed cases that do not exist.
    pub fn strangers(&self, groups: &[Group]) -> Vec<String> {
        let exists = |group: &str, case: &str| {
            groups
                .iter()
                .any(|found| found.name == group && found.cases.iter().any(|found| found.name == case))
        };
        let listed =
            self.reasons.iter().flat_map(|(group, cases)| cases.keys().map(move |case| (group, case)));
        listed
            .filter(|(group, case)| !exists(group, case))
            .map(|(group, case)| format!("{group}: {case}"))
            .collect()
    }
}
