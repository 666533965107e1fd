//! The rules of a schema on a custom resource.

use std::sync::Arc;

use apimachinery::Cause;
use kube_cel::cel::{Context, Value};
use serde_json::{Value as Json, json};

use crate::budget::Budget;
use crate::schema::{Node, Rule, Schema};
use crate::values;

/// Bytes of a message that an expression makes.
const LONGEST: usize = 5 * 1024;

/// What rules say of an object.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub causes: Vec<Cause>,
    /// Of parts that did not change, which may stay as they are (KEP-4008).
    pub kept: Vec<Cause>,
}

/// What is said where rules were not looked at because of `causes`; `None`: rules can be looked at nevertheless.
pub fn unchecked(causes: &[Cause]) -> Option<Cause> {
    let blocks = |cause: &Cause| {
        let of = ["NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid"];
        cause.reason.strip_prefix("FieldValue").is_some_and(|reason| of.contains(&reason))
    };
    let why = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the \
               existing errors to complete validation";
    causes.iter().any(blocks).then(|| Cause {
        reason: "FieldValueInvalid".into(),
        message: why.to_owned(),
        field: "<nil>".to_owned(),
    })
}

/// Evaluates the rules of a schema. Objects come with their kind, and with defaults.
pub fn check(
    rules: &Schema,
    schema: &Json,
    object: &Json,
    old: Option<&Json>,
    budget: &Arc<Budget>,
) -> Verdict {
    let context = budget.context();
    let mut verdict = Verdict::default();
    let mut walk = Walk { context: &context, budget, verdict: &mut verdict };
    let at = At { schema, value: object, old, is_root: true };
    walk.node(&rules.root, at, "");
    verdict
}

struct Walk<'a> {
    context: &'a Context<'static>,
    budget: &'a Arc<Budget>,
    verdict: &'a mut Verdict,
}

/// A part of an object.
#[derive(Clone, Copy)]
struct At<'a> {
    schema: &'a Json,
    value: &'a Json,
    /// What it was, where that is known.
    old: Option<&'a Json>,
    is_root: bool,
}

impl Walk<'_> {
    fn node(&mut self, node: &Node, at: At<'_>, path: &str) {
        if at.value.is_null() || self.budget.is_spent() {
            return;
        }
        if !node.rules.is_empty() {
            self.rules(&node.rules, at, path);
        }
        match at.value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let property = node.properties.get(name);
                    let inner = property.or_else(|| {
                        let declared = at.schema.get("properties").is_some_and(|all| all.get(name).is_some());
                        node.additional.as_deref().filter(|_| !declared)
                    });
                    let (Some(inner), Some(schema)) = (inner, values::inner(at.schema, name)) else {
                        continue;
                    };
                    let old = at.old.and_then(|old| old.get(name));
                    let path = match (property.is_some(), path.is_empty()) {
                        (true, true) => name.clone(),
                        (true, false) => format!("{path}.{name}"),
                        (false, _) => format!("{path}[{name}]"),
                    };
                    self.node(inner, At { schema, value, old, is_root: false }, &path);
                }
            }
            Json::Array(items) => {
                let (Some(inner), Some(schema)) = (&node.items, at.schema.get("items")) else { return };
                for (number, value) in items.iter().enumerate() {
                    let old = at.old.and_then(|old| counterpart(at.schema, value, old));
                    self.node(inner, At { schema, value, old, is_root: false }, &format!("{path}[{number}]"));
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, rules: &[Rule], at: At<'_>, path: &str) {
        let value = |object: &Json| match at.is_root {
            true => values::typed(&root(object), at.schema),
            false => values::typed(object, at.schema),
        };
        let mut scope = self.context.new_inner_scope();
        scope.add_variable_from_value("self", value(at.value));
        if let Some(old) = at.old {
            scope.add_variable_from_value("oldSelf", value(old));
        }
        for rule in rules {
            let cause = match (rule.looks_back, at.old, rule.optional_old) {
                (true, None, false) => continue,
                (true, old, true) => {
                    let mut scope = scope.new_inner_scope();
                    scope.add_variable_from_value("@old", old.map_or(Value::Null, value));
                    let made = if old.is_some() { "optional.of(oldSelf)" } else { "optional.none()" };
                    let parsed = kube_cel::cel::Program::compile(made);
                    let optional = parsed.ok().and_then(|made| made.execute(&scope).ok());
                    scope.add_variable_from_value("oldSelf", optional.unwrap_or(Value::Null));
                    self.one(rule, at.value, path, &scope)
                }
                _ => self.one(rule, at.value, path, &scope),
            };
            let is_kept = !rule.looks_back && at.old.is_some_and(|old| old == at.value);
            if let Some(cause) = cause {
                let told = if is_kept { &mut self.verdict.kept } else { &mut self.verdict.causes };
                told.push(cause);
            }
        }
    }

    fn one(&self, rule: &Rule, value: &Json, path: &str, scope: &Context<'_>) -> Option<Cause> {
        let program = match &rule.program {
            Ok(program) => program,
            Err(error) => return Some(invalid(path, &format!("rule compile error: {error}"))),
        };
        let name = if rule.message.is_empty() { program.text() } else { &rule.message };
        let why = match program.value(scope, self.budget) {
            Ok(Value::Bool(true)) => return None,
            Ok(Value::Bool(false)) => self.message(rule, program.text(), scope),
            Ok(_) => return Some(invalid(path, "\"object\": cel expression must evaluate to a bool")),
            Err(error) => {
                return Some(invalid(path, &format!("{}: {error} evaluating rule: {name}", shown(value))));
            }
        };
        let mut field = path.to_owned();
        for name in &rule.field {
            field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
        }
        let value = if rule.field.is_empty() { value.clone() } else { inner(value, &rule.field) };
        Some(match rule.reason.as_str() {
            "FieldValueForbidden" => Cause::forbidden(field, &why),
            "FieldValueRequired" => Cause::required(field, &why),
            "FieldValueDuplicate" => Cause {
                reason: "FieldValueDuplicate".into(),
                message: match value {
                    Json::Object(_) | Json::Array(_) | Json::Null => "Duplicate value".to_owned(),
                    value => format!("Duplicate value: {value}"),
                },
                field,
            },
            _ if value.is_object() || value.is_array() || value.is_null() => invalid(&field, &why),
            _ => Cause::invalid(field, &value, &why),
        })
    }

    fn message(&self, rule: &Rule, text: &str, scope: &Context<'_>) -> String {
        let made = rule.message_program.as_ref().and_then(|program| program.value(scope, self.budget).ok());
        let fallback = || match rule.message.is_empty() {
            true => format!("failed rule: {text}"),
            false => rule.message.clone(),
        };
        self.budget.begin(text);
        made.and_then(message).unwrap_or_else(fallback)
    }
}

/// A text that can be a message.
pub(crate) fn message(value: Value) -> Option<String> {
    let Value::String(text) = value else { return None };
    let text = text.trim();
    (!text.is_empty() && !text.contains('\n') && text.len() <= LONGEST).then(|| text.to_owned())
}

fn invalid(path: &str, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {why}"),
        field: path.to_owned(),
    }
}

fn shown(value: &Json) -> String {
    match value {
        Json::Object(_) => "\"object\"".to_owned(),
        Json::Array(_) => "\"array\"".to_owned(),
        other => other.to_string(),
    }
}

fn inner(value: &Json, names: &[String]) -> Json {
    let mut at = value;
    for name in names {
        match at.get(name) {
            Some(inner) => at = inner,
            None => return Json::Null,
        }
    }
    at.clone()
}

/// Of metadata, rules see the name alone.
fn root(object: &Json) -> Json {
    let mut object = object.clone();
    let kept = ["name", "generateName"].into_iter();
    let kept: serde_json::Map<String, Json> =
        kept.filter_map(|name| Some((name.to_owned(), object["metadata"].get(name)?.clone()))).collect();
    object["metadata"] = json!(kept);
    object
}

/// The item that a list had for this one, of lists with keys.
fn counterpart<'a>(schema: &Json, item: &Json, old: &'a Json) -> Option<&'a Json> {
    let is_keyed = schema.get("x-kubernetes-list-type").is_some_and(|of| of == "map");
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array).filter(|_| is_keyed)?;
    let same = |old: &&Json| keys.iter().filter_map(Json::as_str).all(|key| old.get(key) == item.get(key));
    old.as_array()?.iter().find(same)
}
