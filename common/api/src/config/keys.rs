//! What becomes of KubeEdge's keys that are not fields here, key by key: a table for each program.
//!
//! A key is harmless where it has the value KubeEdge writes for everybody, or where it tunes what does not exist here.
//! Otherwise it is warned of by name, or the start is refused: where going on would break a promise the file asks for.

mod cloudcore;
mod edgecore;

use serde_json::Value;

pub use cloudcore::CLOUDCORE;
pub use edgecore::EDGECORE;

/// What a key means for this program.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Dotted; `.*` at the end stands for all keys below.
    key: &'static str,
    /// Values, as JSON, that ask for nothing that is not done anyway. Empty: none but the absent one.
    usual: &'static [&'static str],
    otherwise: Otherwise,
}

/// What becomes of a value that is not among the usual ones.
#[derive(Clone, Copy, Debug)]
pub enum Otherwise {
    /// Any value is as good as none; the reason.
    Harmless(&'static str),
    /// What does not happen, and what to do.
    Warn(&'static str),
    /// Why the program does not start, and what to do.
    Refuse(&'static str),
}

impl Rule {
    /// Dotted; `.*` at the end stands for all keys below.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// Values, as JSON, that ask for nothing that is not done anyway.
    pub fn usual(&self) -> &'static [&'static str] {
        self.usual
    }

    pub fn otherwise(&self) -> Otherwise {
        self.otherwise
    }
}

/// How one key of a file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Nothing is lost by passing over it.
    Harmless,
    /// The text says what does not happen.
    Warn(&'static str),
    /// The text says what to do instead.
    Refuse(&'static str),
    /// Neither KubeEdge nor this program is known to have it.
    Unknown,
}

const fn harmless(key: &'static str, reason: &'static str) -> Rule {
    Rule { key, usual: &[], otherwise: Otherwise::Harmless(reason) }
}

const fn warn(key: &'static str, usual: &'static [&'static str], text: &'static str) -> Rule {
    Rule { key, usual, otherwise: Otherwise::Warn(text) }
}

const fn refuse(key: &'static str, usual: &'static [&'static str], text: &'static str) -> Rule {
    Rule { key, usual, otherwise: Otherwise::Refuse(text) }
}

/// The first rule that names the key decides.
pub fn judge(rules: &[Rule], key: &str, value: &Value) -> KeyUse {
    let Some(rule) = rules.iter().find(|rule| names(rule.key, key)) else { return KeyUse::Unknown };
    let is = |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|usual| usual == *value);
    if value.is_null() || rule.usual.iter().any(is) {
        return KeyUse::Harmless;
    }
    match rule.otherwise {
        Otherwise::Harmless(_) => KeyUse::Harmless,
        Otherwise::Warn(text) => KeyUse::Warn(text),
        Otherwise::Refuse(text) => KeyUse::Refuse(text),
    }
}

fn names(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix(".*") {
        // A map without keys is told under its own name.
        Some(above) => key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
        None => pattern == key,
    }
}

/// A file's keys that are no fields, sorted by what is to be said of them.
#[derive(Debug, Default)]
pub struct Review {
    pub harmless: Vec<String>,
    /// Key and what does not happen.
    pub warnings: Vec<(String, &'static str)>,
    /// `key: why`.
    pub problems: Vec<String>,
}

/// What an unknown key is told.
const UNKNOWN: &str = "neither KubeEdge nor this program has this key; is it misspelt?";

pub fn review<'a>(rules: &[Rule], keys: impl Iterator<Item = (&'a str, &'a Value)>) -> Review {
    let mut review = Review::default();
    for (key, value) in keys {
        match judge(rules, key, value) {
            KeyUse::Harmless => review.harmless.push(key.to_owned()),
            KeyUse::Warn(text) => review.warnings.push((key.to_owned(), text)),
            KeyUse::Unknown => review.warnings.push((key.to_owned(), UNKNOWN)),
            KeyUse::Refuse(text) => review.problems.push(format!("{key}: {text}")),
        }
    }
    review
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_usual_value_is_harmless_and_another_one_is_judged() {
        let judge = |key: &str, value: Value| judge(EDGECORE, key, &value);
        let kubelet = "modules.edged.tailoredKubeletConfig";
        assert_eq!(judge("modules.serviceBus.enable", json!(false)), KeyUse::Harmless);
        assert!(matches!(judge("modules.serviceBus.enable", json!(true)), KeyUse::Warn(_)));
        assert_eq!(judge(&format!("{kubelet}.cpuManagerPolicy"), json!("none")), KeyUse::Harmless);
        assert!(matches!(judge(&format!("{kubelet}.cpuManagerPolicy"), json!("static")), KeyUse::Refuse(_)));
        assert_eq!(judge(&format!("{kubelet}.featureGates"), json!({})), KeyUse::Harmless);
        assert!(matches!(
            judge(&format!("{kubelet}.featureGates.UserNamespaces"), json!(true)),
            KeyUse::Warn(_)
        ));
        assert_eq!(judge("modules.edgeHub.hartbeat", json!(5)), KeyUse::Unknown);
    }

    #[test]
    fn no_key_is_named_twice() {
        for rules in [CLOUDCORE, EDGECORE] {
            let mut names: Vec<&str> = rules.iter().map(|rule| rule.key).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }

    #[test]
    fn usual_values_are_json() {
        for rule in CLOUDCORE.iter().chain(EDGECORE) {
            for text in rule.usual {
                assert!(serde_json::from_str::<Value>(text).is_ok(), "{}: {text}", rule.key);
            }
        }
    }
}
