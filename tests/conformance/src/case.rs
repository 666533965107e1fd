//! The form of the cases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// Cases of one file.
pub struct Group {
    pub name: String,
    pub cases: Vec<Case>,
}

/// A claim about an API server, and the requests that show it.
///
/// In all its texts, `$id` is a word that no other case has (fit for a DNS label), `$ns` the case's own namespace, `$NAME` what
/// a step before captured, and `${x*N}` the letter x N times.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// A claim.
    pub name: String,
    /// Where it is written down: `concepts#ANCHOR` (kubernetes.io/docs/reference/using-api/api-concepts), `conventions#ANCHOR`
    /// (api-conventions.md of kubernetes/community), `docs:PATH` (below kubernetes.io/docs), `KEP-NUMBER` (kubernetes/enhancements)
    /// or `k8s:PATH` (a file of kubernetes/kubernetes, release 1.36).
    pub source: String,
    /// The oldest minor version of Kubernetes 1 that does so.
    #[serde(default)]
    pub since: u32,
    /// Service accounts in `$ns`, by the name that steps use in `as`.
    #[serde(default)]
    pub accounts: BTreeMap<String, Account>,
    /// Objects to create first, in `$ns` if their kind has namespaces.
    #[serde(default)]
    pub given: Vec<Value>,
    pub steps: Vec<Step>,
}

/// What a service account may do.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// RBAC rules in `$ns`.
    #[serde(default)]
    pub rules: Vec<Value>,
    /// RBAC rules everywhere.
    #[serde(default, rename = "clusterRules")]
    pub cluster_rules: Vec<Value>,
}

/// One of three: `request`, a watch that begins (`watch`), or what a watch shows (`events`).
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `METHOD PATH`.
    pub request: Option<String>,
    /// The path of a watch, which goes on while later steps run.
    pub watch: Option<String>,
    /// The name of the watch, as `events` calls it.
    #[serde(default)]
    pub name: String,
    /// The name of a watch that began before.
    pub events: Option<String>,
    /// An account, `anonymous`, or `token:TOKEN`; the administrator if absent.
    #[serde(rename = "as")]
    pub who: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Content type of the body: `merge`, `json`, `strategic` and `apply` are those of patches, `yaml` and `protobuf` others.
    #[serde(rename = "type")]
    pub content: Option<String>,
    /// A text is sent as it is, anything else as JSON.
    pub body: Option<Value>,
    /// The body in hexadecimal digits.
    pub hex: Option<String>,
    /// The expected code, or one of several; absent: 201 for POST, 200 for others.
    pub status: Option<Codes>,
    /// Expected headers of the answer: a text it equals, null if it must not be there, or a matcher.
    #[serde(default)]
    pub answer: BTreeMap<String, Value>,
    #[serde(flatten)]
    pub body_of_answer: Expected,
    /// The request is repeated until the answer is as expected, until the deadline.
    #[serde(default)]
    pub eventually: bool,
    /// Seconds until an answer or an event must have come.
    pub within: Option<u64>,
    /// The events of `events`, in their order. Bookmarks are passed over where none is expected.
    #[serde(default)]
    pub see: Vec<Seen>,
    /// The watch ends after the events.
    #[serde(default)]
    pub end: bool,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Codes {
    One(u16),
    Several(Vec<u16>),
}

/// What is expected of an object. Places are JSON pointers whose parts may be `[key=value]` (`[key.key=value]`): the first
/// element of a list in which that is so. The empty pointer is the whole answer; one that is no JSON or YAML is a text, and
/// one in Protobuf or packed a text of hexadecimal digits.
#[derive(Clone, Default, Deserialize)]
pub struct Expected {
    /// A value the place equals, or a matcher: `{matches: REGEX}`, `{length: N}`, `{contains: X}` (a part of a text, an
    /// element of a list that has all of X, or a field's name), `{lacks: X}`, `{not: X}`, `{greater: N}`, `{has: X}` (an
    /// object with all of X), `{typed: string}`, or several at once.
    #[serde(default)]
    pub expect: BTreeMap<String, Value>,
    #[serde(default)]
    pub present: Vec<String>,
    #[serde(default)]
    pub absent: Vec<String>,
    /// Names for what is at a place; `#name` is a header.
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
}

/// An event of a watch.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub expect: BTreeMap<String, Value>,
    #[serde(default)]
    pub present: Vec<String>,
    #[serde(default)]
    pub absent: Vec<String>,
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("reading the cases in {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("reading the YAML in {path}")]
    Yaml { path: PathBuf, source: apimachinery::yaml::YamlError },
    #[error("{path}: case {case}")]
    Form { path: PathBuf, case: String, source: serde_json::Error },
    #[error("{path}: case {case}: {problem}")]
    Case { path: PathBuf, case: String, problem: &'static str },
}

/// Reads all groups of a folder, by name; with the folder `None`, those of this crate.
///
/// # Errors
/// [`LoadError`]: a file cannot be read, or a case has not the form of [`Case`].
pub fn load(folder: Option<&Path>) -> Result<Vec<Group>, LoadError> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let folder = folder.unwrap_or(&own);
    let failed = |source| LoadError::Read { path: folder.to_owned(), source };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    files.iter().map(|file| group(file)).collect()
}

fn group(path: &Path) -> Result<Group, LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let values = apimachinery::yaml::parse(&text)
        .map_err(|source| LoadError::Yaml { path: path.to_owned(), source })?;
    let mut cases: Vec<Case> = Vec::new();
    for value in values.as_array().into_iter().flatten() {
        let name = value["name"].as_str().unwrap_or_default().to_owned();
        let case: Case = serde_json::from_value(value.clone()).map_err(|source| LoadError::Form {
            path: path.to_owned(),
            case: name.clone(),
            source,
        })?;
        let twice = cases.iter().any(|other| other.name == case.name).then_some("its name comes twice");
        if let Some(problem) = problem(&case).or(twice) {
            return Err(LoadError::Case { path: path.to_owned(), case: name, problem });
        }
        cases.push(case);
    }
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Group { name, cases })
}

fn problem(case: &Case) -> Option<&'static str> {
    if case.name.is_empty() || case.source.is_empty() {
        return Some("a case has a name and a source");
    }
    if !["concepts#", "conventions#", "docs:", "KEP-", "k8s:"]
        .iter()
        .any(|form| case.source.starts_with(form))
    {
        return Some("a source has one of the forms of Case::source");
    }
    if case.steps.is_empty() {
        return Some("a case has steps");
    }
    case.steps.iter().find_map(|step| {
        let forms = [step.request.is_some(), step.watch.is_some(), step.events.is_some()];
        if forms.iter().filter(|form| **form).count() != 1 {
            return Some("a step has one of request, watch and events");
        }
        if step.watch.is_some() == step.name.is_empty() {
            return Some("a watch, and nothing else, has a name");
        }
        if step.events.is_none() && (!step.see.is_empty() || step.end) {
            return Some("see and end belong to events");
        }
        None
    })
}
