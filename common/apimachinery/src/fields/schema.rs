//! What the rules of ownership ask about types: of built-in kinds and of custom resources alike.

use serde_json::{Map, Value};

use super::Element;
use crate::schema::flag;
use crate::schemas::{Lists, Scalar, Shape, Type};

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a>(Of<'a>);

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    BuiltIn(Type),
    /// A structural schema; `true` where there is an object of its own, with type and metadata.
    Custom(&'a Value, bool),
    /// Anything: maps by their keys, lists as a whole.
    Any,
}

/// How a value is owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    Scalar,
    Map {
        is_atomic: bool,
    },
    /// A list that is owned as a whole.
    Whole,
    /// A list whose items are owned one by one.
    Items,
}

/// Why an item of a list is not known by an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoElement {
    NotAMap,
    NoKeys,
    NoScalar,
}

impl<'a> Schema<'a> {
    pub(super) const ANY: Schema<'static> = Schema(Of::Any);

    pub fn built_in(of: Type) -> Schema<'static> {
        Schema(Of::BuiltIn(of))
    }

    /// Of custom resources with this structural schema; without one, anything goes.
    pub fn custom(schema: Option<&'a Value>) -> Schema<'a> {
        Schema(schema.map_or(Of::Any, |schema| Of::Custom(schema, true)))
    }

    /// How `value` is owned. Null is whatever the type says.
    pub(super) fn atom(self, value: &Value) -> Atom {
        let by_value = || match value {
            Value::Object(_) => Atom::Map { is_atomic: false },
            Value::Array(_) => Atom::Whole,
            _ => Atom::Scalar,
        };
        match self.0 {
            Of::Any => by_value(),
            Of::BuiltIn(of) => match of.shape() {
                Shape::Any => by_value(),
                Shape::Scalar(_) => Atom::Scalar,
                Shape::Struct | Shape::Map(_) => Atom::Map { is_atomic: of.is_atomic() },
                Shape::List(_, Lists::Atomic) => Atom::Whole,
                Shape::List(..) => Atom::Items,
            },
            Of::Custom(schema, _) => {
                let says = |key: &str, word: &str| schema.get(key).is_some_and(|value| value == word);
                match schema.get("type").and_then(Value::as_str) {
                    _ if flag(schema, "x-kubernetes-int-or-string") => Atom::Scalar,
                    Some("object") => Atom::Map { is_atomic: says("x-kubernetes-map-type", "atomic") },
                    Some("array")
                        if says("x-kubernetes-list-type", "map") || says("x-kubernetes-list-type", "set") =>
                    {
                        Atom::Items
                    }
                    Some("array") => Atom::Whole,
                    Some(_) => Atom::Scalar,
                    None => by_value(),
                }
            }
        }
    }

    /// The type of a field of a map; `None` if there is no such field.
    pub(super) fn field(self, name: &str) -> Option<Schema<'a>> {
        match self.0 {
            Of::Any => Some(Schema::ANY),
            Of::BuiltIn(of) => match of.shape() {
                Shape::Struct => of.field(name).map(|field| Schema(Of::BuiltIn(field.of))),
                Shape::Map(value) => Some(Schema(Of::BuiltIn(value))),
                Shape::Any => Some(Schema::ANY),
                _ => None,
            },
            Of::Custom(schema, is_object) => {
                let is_object = is_object || flag(schema, "x-kubernetes-embedded-resource");
                if let (true, "metadata") = (is_object, name) {
                    return Some(Type::metadata().map_or(Schema::ANY, Schema::built_in));
                }
                if let (true, "apiVersion" | "kind") = (is_object, name) {
                    return Some(Schema::ANY);
                }
                let properties = schema.get("properties").and_then(Value::as_object);
                if let Some(inner) = properties.and_then(|known| known.get(name)) {
                    return Some(Schema(Of::Custom(inner, false)));
                }
                match schema.get("additionalProperties") {
                    Some(inner @ Value::Object(_)) => Some(Schema(Of::Custom(inner, false))),
                    Some(Value::Bool(true)) => Some(Schema::ANY),
                    _ if flag(schema, "x-kubernetes-preserve-unknown-fields") => Some(Schema::ANY),
                    _ if schema.get("type").is_none() || properties.is_none_or(Map::is_empty) => {
                        Some(Schema::ANY)
                    }
                    _ => None,
                }
            }
        }
    }

    /// True for a field that the schema names, false for a key of a map.
    pub(super) fn is_declared(self, name: &str) -> bool {
        match self.0 {
            Of::Any => false,
            Of::BuiltIn(of) => of.field(name).is_some(),
            Of::Custom(schema, is_object) => {
                let is_envelope = matches!(name, "apiVersion" | "kind" | "metadata");
                let is_object = is_object || flag(schema, "x-kubernetes-embedded-resource");
                (is_object && is_envelope)
                    || schema.get("properties").is_some_and(|known| known.get(name).is_some())
            }
        }
    }

    /// The fields that Kubernetes' own objects always have, if only as an empty map or null.
    pub(super) fn always_present(self) -> impl Iterator<Item = &'static str> {
        let (of, is_object) = match self.0 {
            Of::BuiltIn(of) => (Some(of), false),
            Of::Custom(_, is_object) => (None, is_object),
            Of::Any => (None, false),
        };
        let built_in = of.into_iter().flat_map(Type::fields).filter(|field| field.always_present);
        built_in.map(|field| field.name).chain(is_object.then_some("metadata"))
    }

    /// The type of the items of a list.
    pub(super) fn item(self) -> Schema<'a> {
        match self.0 {
            Of::BuiltIn(of) => match of.shape() {
                Shape::List(item, _) => Schema(Of::BuiltIn(item)),
                _ => Schema::ANY,
            },
            Of::Custom(schema, _) => {
                schema.get("items").map_or(Schema::ANY, |items| Schema(Of::Custom(items, false)))
            }
            Of::Any => Schema::ANY,
        }
    }

    /// The type of what an element leads to.
    pub(super) fn below(self, element: &Element) -> Schema<'a> {
        match element {
            Element::Field(name) => self.field(name).unwrap_or(Schema::ANY),
            _ => self.item(),
        }
    }

    /// The keys of a list whose items are known by them, with their defaults.
    fn keys(self) -> Vec<(&'a str, Option<Value>)> {
        match self.0 {
            Of::BuiltIn(of) => {
                let item = match of.shape() {
                    Shape::List(item, Lists::Keyed) => item,
                    _ => return vec![],
                };
                let default = |key: &str| {
                    let field = item.field(key)?;
                    match field.of.shape() {
                        Shape::Scalar(Scalar::Int32 | Scalar::Int64) => {
                            field.default?.parse::<i64>().ok().map(Value::from)
                        }
                        _ => field.default.map(Value::from),
                    }
                };
                of.keys().map(|key| (key, default(key))).collect()
            }
            Of::Custom(schema, _) => {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let fields = schema.get("items").and_then(|items| items.get("properties"));
                let default = |key: &str| fields.and_then(|all| all.get(key)?.get("default")).cloned();
                let names = keys.into_iter().flatten().filter_map(Value::as_str);
                names.map(|key| (key, default(key))).collect()
            }
            Of::Any => vec![],
        }
    }

    fn is_keyed(self) -> bool {
        match self.0 {
            Of::BuiltIn(of) => matches!(of.shape(), Shape::List(_, Lists::Keyed)),
            Of::Custom(schema, _) => schema.get("x-kubernetes-list-type").is_some_and(|kind| kind == "map"),
            Of::Any => false,
        }
    }

    /// The element by which an item of this list is known.
    pub(super) fn element_of(self, item: &Value) -> Result<Element, NoElement> {
        if !self.is_keyed() {
            return match item {
                Value::Object(_) | Value::Array(_) | Value::Null => Err(NoElement::NoScalar),
                scalar => Ok(Element::Value(scalar.clone())),
            };
        }
        let fields = item.as_object().ok_or(NoElement::NotAMap)?;
        let found = self.keys().into_iter().filter_map(|(key, default)| {
            let value = fields.get(key).cloned().or(default)?;
            Some((key.to_owned(), value))
        });
        let mut keys: Vec<(String, Value)> = found.collect();
        if keys.is_empty() {
            return Err(NoElement::NoKeys);
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Element::Key(keys))
    }

    /// The names of the keys of a list, for messages.
    pub(super) fn key_names(self) -> Vec<&'a str> {
        self.keys().into_iter().map(|(name, _)| name).collect()
    }

    /// What a scalar has to be; `None` if anything goes.
    pub(super) fn scalar(self) -> Option<&'static str> {
        use crate::schemas::Scalar::{Boolean, Bytes, Int32, Int64, Number, String};
        match self.0 {
            Of::BuiltIn(of) => match of.shape() {
                Shape::Scalar(String | Bytes) => Some("string"),
                Shape::Scalar(Boolean) => Some("boolean"),
                Shape::Scalar(Int32 | Int64 | Number) => Some("numeric"),
                _ => None,
            },
            Of::Custom(schema, _) if !flag(schema, "x-kubernetes-int-or-string") => {
                match schema.get("type").and_then(Value::as_str) {
                    Some("string") => Some("string"),
                    Some("boolean") => Some("boolean"),
                    Some("integer" | "number") => Some("numeric"),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
