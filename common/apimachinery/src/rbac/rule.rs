//! One rule of a role, and what it is asked about.

use serde_json::{Value, json};

use crate::Status;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub what: What<'a>,
    /// The one node whose pods a list or watch selects (`spec.nodeName`); empty: it does not select so.
    pub on_node: &'a str,
}

impl<'a> Attributes<'a> {
    /// Without selectors.
    pub fn new(verb: &'a str, what: What<'a>) -> Attributes<'a> {
        Attributes { verb, what, on_node: "" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// An object, or a collection where `name` is empty. `namespace` is empty for all namespaces and at the cluster scope.
    Resource { group: &'a str, resource: &'a str, subresource: &'a str, namespace: &'a str, name: &'a str },
    /// A path that is no resource's.
    Path(&'a str),
}

impl Attributes<'_> {
    /// `user` may not do this.
    pub fn forbidden(&self, user: &str) -> Status {
        let verb = self.verb;
        let (group, resource, subresource, namespace, name) = match self.what {
            What::Resource { group, resource, subresource, namespace, name } => {
                (group, resource, subresource, namespace, name)
            }
            What::Path(path) => {
                let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}");
                return Status::new(403, "Forbidden", message);
            }
        };
        let whole =
            if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        let place = match namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let why = format!("User {user:?} cannot {verb} resource {whole:?} in API group {group:?} {place}");
        Status::refused(group, resource, name, &why)
    }
}

impl What<'_> {
    /// The namespace asked about; empty where there is none.
    pub fn namespace(&self) -> &str {
        match self {
            What::Resource { namespace, .. } => namespace,
            What::Path(_) => "",
        }
    }
}

const ALL: &str = "*";

/// `PolicyRule`: every verb on every resource or path that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*`, `*/scale`.
    pub resources: Vec<String>,
    /// The objects it is about; empty: all.
    pub names: Vec<String>,
    /// Paths that are no resource's; a `*` at the end stands for whatever follows.
    pub paths: Vec<String>,
}

/// The rules of a role.
pub fn rules(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().into_iter().flatten().map(Rule::read).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == ALL || entry == wanted)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rule {
    pub fn read(value: &Value) -> Rule {
        Rule {
            verbs: texts(&value["verbs"]),
            groups: texts(&value["apiGroups"]),
            resources: texts(&value["resources"]),
            names: texts(&value["resourceNames"]),
            paths: texts(&value["nonResourceURLs"]),
        }
    }

    /// As it is written in a role.
    pub fn value(&self) -> Value {
        let mut value = json!({ "verbs": self.verbs });
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        for (field, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            value[field] = json!(list);
        }
        value
    }

    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && match asked.what {
                What::Resource { group, resource, subresource, name, .. } => {
                    has(&self.groups, group)
                        && self.resources.iter().any(|own| is_about(own, resource, subresource))
                        && (self.names.is_empty() || self.names.iter().any(|own| own == name))
                }
                What::Path(path) => self.paths.iter().any(|own| reaches(own, path)),
            }
    }

    /// Whatever of this rule nobody of `owned` gives, each as a rule of one verb on one thing.
    pub fn beyond(&self, owned: &[Rule]) -> Vec<Rule> {
        self.single().filter(|single| !owned.iter().any(|own| own.covers(single))).collect()
    }

    /// One rule for each verb on each resource, name or path.
    fn single(&self) -> impl Iterator<Item = Rule> {
        let one = |text: &String| vec![text.clone()];
        let mut all = Vec::new();
        for verb in &self.verbs {
            for (group, resource) in
                self.groups.iter().flat_map(|group| self.resources.iter().map(move |own| (group, own)))
            {
                let rule = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                match self.names.is_empty() {
                    true => all.push(rule),
                    false => {
                        all.extend(self.names.iter().map(|name| Rule { names: one(name), ..rule.clone() }));
                    }
                }
            }
            let of_path = |path| Rule { verbs: one(verb), paths: one(path), ..Rule::default() };
            all.extend(self.paths.iter().map(of_path));
        }
        all.into_iter()
    }

    /// True if this rule gives all of `single`, which has one entry in each of its lists at most.
    fn covers(&self, single: &Rule) -> bool {
        let given = |own: &[String], wanted: &[String]| wanted.iter().all(|wanted| has(own, wanted));
        let (resource, subresource) = single
            .resources
            .first()
            .map(|text| text.split_once('/').unwrap_or((text, "")))
            .unwrap_or_default();
        given(&self.verbs, &single.verbs)
            && given(&self.groups, &single.groups)
            && (single.resources.is_empty()
                || self.resources.iter().any(|own| is_about(own, resource, subresource)))
            && (self.names.is_empty()
                || !single.names.is_empty() && single.names.iter().all(|name| self.names.contains(name)))
            && single.paths.iter().all(|path| self.paths.iter().any(|own| reaches(own, path)))
    }
}

/// True if `own`, as a rule has it, is about the resource.
fn is_about(own: &str, resource: &str, subresource: &str) -> bool {
    if own == ALL {
        return true;
    }
    match own.split_once('/') {
        None => subresource.is_empty() && own == resource,
        Some((ALL, sub)) => !subresource.is_empty() && sub == subresource,
        Some((of, sub)) => of == resource && sub == subresource,
    }
}

/// True if `own`, as a rule has it, is or begins the path.
fn reaches(own: &str, path: &str) -> bool {
    own == path || own.strip_suffix(ALL).is_some_and(|start| path.starts_with(start))
}
