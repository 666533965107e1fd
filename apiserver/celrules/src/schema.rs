//! The rules of a schema, compiled, as a tree that has only branches with rules.

use std::collections::BTreeMap;

use apimachinery::object::{list, text};
use serde_json::{Value as Json, json};

use crate::program::{Program, ProgramError};
use crate::types::{Scope, Type, room, said};

/// The field of a schema with its rules.
pub(crate) const RULES: &str = "x-kubernetes-validations";
/// Schemas within schemas.
const DEEPEST: usize = 64;

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub program: Result<Program, ProgramError>,
    pub message: String,
    pub message_program: Option<Program>,
    /// A `Cause`'s; empty: `FieldValueInvalid`.
    pub reason: String,
    /// Names of fields.
    pub field: Vec<String>,
    pub looks_back: bool,
    /// `optionalOldSelf`: also evaluated where there was nothing.
    pub optional_old: bool,
}

/// A part of a schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub rules: Vec<Rule>,
    pub properties: BTreeMap<String, Node>,
    pub additional: Option<Box<Node>>,
    pub items: Option<Box<Node>>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.rules.is_empty()
            && self.properties.is_empty()
            && self.additional.is_none()
            && self.items.is_none()
    }
}

/// The rules of a schema.
#[derive(Debug)]
pub struct Schema {
    pub(crate) root: Node,
}

/// True if a schema has rules at any depth.
pub fn has_rules(schema: &Json) -> bool {
    match schema {
        Json::Object(fields) => {
            let has = |value: &Json| value.as_array().is_some_and(|rules| !rules.is_empty());
            fields.get(RULES).is_some_and(has) || fields.values().any(has_rules)
        }
        Json::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// What every object has beside its schema.
pub(crate) fn envelope() -> Json {
    let text = json!({"type": "string"});
    let metadata = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    json!({"apiVersion": text, "kind": text, "metadata": metadata})
}

impl Schema {
    /// Compiles the rules of a schema. Recursive: call it on a thread of a [`crate::Runner`].
    pub fn compile(schema: &Json) -> Schema {
        let mut root = Node::default();
        let envelope = envelope();
        walk(schema, &mut |part: &Part<'_>| {
            let rules = rules(part, &envelope);
            if rules.is_empty() {
                return;
            }
            let mut node = &mut root;
            for step in part.steps {
                node = match step {
                    Step::Property(name) => node.properties.entry(name.clone()).or_default(),
                    Step::Additional => node.additional.get_or_insert_default(),
                    Step::Items => node.items.get_or_insert_default(),
                };
            }
            node.rules = rules;
        });
        Schema { root }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

/// A way into a schema.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Property(String),
    Additional,
    Items,
}

/// A part of a schema, and where it is.
pub(crate) struct Part<'a> {
    pub schema: &'a Json,
    pub steps: &'a [Step],
    /// How many of it an object may have.
    pub times: u64,
    /// The field of the schema below which old values are not known; empty: they are.
    pub uncorrelatable: Option<String>,
}

/// Below the schema's own field.
pub(crate) fn path(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Property(name) => format!(".properties[{name}]"),
        Step::Additional => ".additionalProperties".to_owned(),
        Step::Items => ".items".to_owned(),
    };
    steps.iter().map(step).collect()
}

/// Visits the parts of a schema that values are matched to.
pub(crate) fn walk(schema: &Json, visit: &mut impl FnMut(&Part<'_>)) {
    deeper(schema, &mut Vec::new(), Some(1), None, visit);
}

fn deeper(
    schema: &Json,
    steps: &mut Vec<Step>,
    // `None`: no schema around it limits it.
    times: Option<u64>,
    uncorrelatable: Option<String>,
    visit: &mut impl FnMut(&Part<'_>),
) {
    if steps.len() > DEEPEST {
        return;
    }
    let most = times.unwrap_or_else(|| room(schema));
    visit(&Part { schema, steps, times: most, uncorrelatable: uncorrelatable.clone() });
    let mut inner = |schema: &Json, step: Step, times: Option<u64>, old: Option<String>| {
        steps.push(step);
        deeper(schema, steps, times, old, visit);
        steps.pop();
    };
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        inner(property, Step::Property(name.clone()), times, uncorrelatable.clone());
    }
    let many = times.zip(said(schema)).map(|(times, each)| times.saturating_mul(each));
    if let Some(additional) = schema.get("additionalProperties").filter(|additional| additional.is_object()) {
        inner(additional, Step::Additional, many, uncorrelatable.clone());
    }
    if let Some(items) = schema.get("items") {
        let is_keyed = text(schema, "/x-kubernetes-list-type") == "map";
        // Where exactly, is told by its path.
        let old = uncorrelatable.or_else(|| (!is_keyed).then(String::new));
        inner(items, Step::Items, many, old);
    }
}

/// The type of `self` there.
pub(crate) fn of_self<'s>(part: &Part<'s>, envelope: &'s Json) -> Type<'s> {
    match part.steps.is_empty() {
        true => Type::of_root(part.schema, envelope),
        false => Type::of(part.schema),
    }
}

/// The names of fields in `fieldPath`: `.a.b`, `['c']`; `None`: it is none.
pub(crate) fn field_path(path: &str) -> Option<Vec<String>> {
    let (mut names, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("['") {
            let end = quoted.find("']")?;
            names.push(quoted[..end].to_owned());
            rest = &quoted[end + 2..];
        } else {
            let plain = rest.strip_prefix('.')?;
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            names.push(plain[..end].to_owned());
            rest = &plain[end..];
        }
        if names.last().is_some_and(String::is_empty) {
            return None;
        }
    }
    Some(names)
}

/// The scope of rules about a part, for its rules and, without `oldSelf`, for the rest.
pub(crate) fn scope<'s>(part: &Part<'s>, envelope: &'s Json) -> Scope<'s> {
    let of = of_self(part, envelope);
    Scope::new([("self", of.clone()), ("oldSelf", of)])
}

fn rules(part: &Part<'_>, envelope: &Json) -> Vec<Rule> {
    let written = list(part.schema, &format!("/{RULES}"));
    if written.is_empty() {
        return vec![];
    }
    let optional = |rule: &Json| rule["optionalOldSelf"] == true;
    let scopes = [scope(part, envelope), optional_scope(part, envelope)];
    let compile =
        |rule: &Json, field: &str| Program::compile(text(rule, field), &scopes[usize::from(optional(rule))]);
    let read = |rule: &Json| Rule {
        program: compile(rule, "/rule").map(|(program, _)| program),
        message: text(rule, "/message").trim().to_owned(),
        message_program: Some(rule)
            .filter(|rule| !text(rule, "/messageExpression").is_empty())
            .and_then(|rule| compile(rule, "/messageExpression").ok())
            .map(|(program, _)| program),
        reason: text(rule, "/reason").to_owned(),
        field: field_path(text(rule, "/fieldPath")).unwrap_or_default(),
        looks_back: looks_back(rule),
        optional_old: optional(rule),
    };
    written.iter().map(read).collect()
}

/// `oldSelf` may be nothing there, and is asked for by `hasValue()`.
pub(crate) fn optional_scope<'s>(part: &Part<'s>, envelope: &'s Json) -> Scope<'s> {
    Scope::new([("self", of_self(part, envelope)), ("oldSelf", Type::Dyn)])
}

/// True if a rule names the old value.
pub(crate) fn looks_back(rule: &Json) -> bool {
    let named = |field: &str| {
        let text = text(rule, field);
        text.match_indices("oldSelf").any(|(at, _)| {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            !text[..at].ends_with(is_word) && !text[at + "oldSelf".len()..].starts_with(is_word)
        })
    };
    named("/rule") || named("/messageExpression")
}
