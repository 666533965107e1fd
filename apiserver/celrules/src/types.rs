//! What can be said of an expression before there are values: fields that are not there, names that nothing has, operands that do
//! not go together, and loops that may be too long. What is not known is let pass (`dyn`).

mod walk;

use std::collections::BTreeMap;

use apimachinery::object::integer;
use kube_cel::cel::Context;
use kube_cel::cel::common::ast::IdedExpr;
use serde_json::Value as Json;

use crate::functions::functions;
use crate::values::{escape, is_map};
use walk::Walk;

/// Bytes of the largest object, from which the longest list is guessed, as kube-apiserver does.
const LARGEST: u64 = 3 * 1024 * 1024;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type<'s> {
    Dyn,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Null,
    List(Box<Type<'s>>, u64),
    Map(Box<Type<'s>>, u64),
    /// With these fields, by their names in expressions.
    Object(BTreeMap<String, &'s Json>),
    /// With these fields, and fields of theirs; none: any.
    Fields(&'static [(&'static str, &'static [&'static str])]),
    /// With these fields.
    Names(&'static [&'static str]),
    /// `Object{..}`.
    Configuration,
    /// `Object.spec{..}` and the like.
    Part,
    /// `JSONPatch{..}`.
    Operation,
}

impl<'s> Type<'s> {
    /// Of values of a schema.
    pub(crate) fn of(schema: &'s Json) -> Type<'s> {
        let flag = |name: &str| schema.get(name).is_some_and(|value| value == true);
        if flag("x-kubernetes-int-or-string") || flag("x-kubernetes-embedded-resource") {
            return Type::Dyn;
        }
        let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
        match (schema.get("type").and_then(Json::as_str).unwrap_or_default(), format) {
            ("string", "date-time" | "date") => Type::Timestamp,
            ("string", "duration") => Type::Duration,
            ("string", "byte") => Type::Bytes,
            ("string", _) => Type::String,
            ("integer", _) => Type::Int,
            ("number", _) => Type::Double,
            ("boolean", _) => Type::Bool,
            ("array", _) => {
                let items = schema.get("items").unwrap_or(&Json::Null);
                Type::List(Box::new(Type::of(items)), size(schema))
            }
            ("object", _) if is_map(schema) => {
                let items = schema.get("additionalProperties").unwrap_or(&Json::Null);
                Type::Map(Box::new(Type::of(items)), size(schema))
            }
            ("object", _) if !flag("x-kubernetes-preserve-unknown-fields") => Type::Object(fields(schema)),
            _ => Type::Dyn,
        }
    }

    /// Of whole objects of a schema: they have a type and a name, whatever it says.
    pub(crate) fn of_root(schema: &'s Json, envelope: &'s Json) -> Type<'s> {
        match Type::of(schema) {
            Type::Object(mut fields) => {
                fields
                    .extend(envelope.as_object().into_iter().flatten().map(|(name, of)| (name.clone(), of)));
                Type::Object(fields)
            }
            other => other,
        }
    }

    /// As kube-apiserver calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Type::Dyn => "dyn",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Null => "null_type",
            Type::List(of, _) if **of == Type::Operation => "list(JSONPatch)",
            Type::List(..) => "list",
            Type::Map(..) => "map",
            Type::Configuration => "Object",
            Type::Operation => "JSONPatch",
            Type::Object(_) | Type::Fields(_) | Type::Names(_) | Type::Part => "object",
        }
    }
}

fn fields(schema: &Json) -> BTreeMap<String, &Json> {
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    properties.map(|(name, schema)| (escape(name), schema)).collect()
}

/// Items that a list or a map has at most.
pub(crate) fn size(schema: &Json) -> u64 {
    let limit = said(schema);
    let items = schema.get("items").or_else(|| schema.get("additionalProperties"));
    let key = if schema.get("items").is_some() { 0 } else { 3 };
    limit.unwrap_or_else(|| LARGEST / (items.map_or(1, |items| least(items, 0)) + 1 + key))
}

/// Items that a list or a map has at most by what its schema says; `None`: it says nothing.
pub(crate) fn said(schema: &Json) -> Option<u64> {
    let limits = ["/maxItems", "/maxProperties"].into_iter().filter_map(|limit| integer(schema, limit));
    limits.min().and_then(|limit| u64::try_from(limit).ok())
}

/// How many values of a schema a request has room for (`MaxCardinality`).
pub(crate) fn room(schema: &Json) -> u64 {
    LARGEST / (least(schema, 0) + 1)
}

/// Bytes that a value of a schema takes at least.
fn least(schema: &Json, depth: usize) -> u64 {
    match schema.get("type").and_then(Json::as_str) {
        Some("boolean") => 4,
        Some("string" | "array") => 2,
        Some("object") if depth < 16 => {
            let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
            let required = required.filter_map(Json::as_str).map(|name| {
                let inner = schema.pointer(&format!("/properties/{name}"));
                name.len() as u64 + 4 + inner.map_or(1, |inner| least(inner, depth + 1))
            });
            2 + required.sum::<u64>()
        }
        _ => 1,
    }
}

/// What is known of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The name of its type.
    pub of: &'static str,
    /// Steps that it may take.
    pub cost: u64,
}

/// What expressions may name.
pub(crate) struct Scope<'s> {
    names: BTreeMap<String, Type<'s>>,
    /// `variables.x`; `None`: there is no such name.
    variables: Option<BTreeMap<String, &'static str>>,
    functions: Context<'static>,
    /// Expressions may make patches (see [`crate::made`]).
    makes: bool,
}

impl<'s> Scope<'s> {
    pub(crate) fn new(names: impl IntoIterator<Item = (&'static str, Type<'s>)>) -> Scope<'s> {
        let names = names.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
        Scope { names, variables: None, functions: functions(), makes: false }
    }

    /// Adds a name.
    pub(crate) fn name(&mut self, name: &str, of: Type<'s>) {
        self.names.insert(name.to_owned(), of);
    }

    /// Adds a variable of a policy.
    pub(crate) fn variable(&mut self, name: &str) {
        self.variables.get_or_insert_default().insert(name.to_owned(), "dyn");
    }

    /// From now on expressions may make patches.
    pub(crate) fn make_patches(&mut self) {
        self.makes = true;
    }

    /// # Errors
    /// Where and what, as cel-go prints it.
    pub(crate) fn check(&self, text: &str, expression: &IdedExpr) -> Result<Checked, String> {
        let mut walk = Walk { scope: self, bound: Vec::new(), errors: Vec::new() };
        let (of, cost) = walk.visit(expression);
        let of = of.name();
        match walk.errors.is_empty() {
            true => Ok(Checked { of, cost }),
            false => {
                walk.errors.dedup();
                let lines: Vec<String> = walk.errors.iter().map(|wrong| wrong.told(text)).collect();
                Err(lines.join("\n"))
            }
        }
    }
}

/// Something wrong, and a text by which it is found.
#[derive(PartialEq)]
struct Wrong {
    near: [String; 2],
    why: String,
}

impl Wrong {
    fn told(&self, text: &str) -> String {
        let found =
            self.near.iter().filter(|near| !near.is_empty()).find_map(|near| text.find(near.as_str()));
        let at = found.unwrap_or(0);
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (text[..at].matches('\n').count() + 1, text[start..at].chars().count());
        let shown = text[start..].lines().next().unwrap_or_default();
        format!("ERROR: <input>:{line}:{}: {}\n | {shown}\n | {}^", column + 1, self.why, ".".repeat(column))
    }
}
