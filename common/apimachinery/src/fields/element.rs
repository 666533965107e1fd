//! One step of a path to a field.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

/// One step of a path: into a map, or to an item of a list.
#[derive(Clone, Debug)]
pub enum Element {
    /// A field of a map, written `f:name`.
    Field(String),
    /// An item of a list by its keys, written `k:{"name":"x"}`. Sorted by name.
    Key(Vec<(String, Value)>),
    /// An item of a set, written `v:"x"`.
    Value(Value),
    /// An item of a list by its place, written `i:0`. Read, but never made.
    Index(i64),
}

impl Element {
    /// Reads the written form; `None` for what is of no known sort.
    pub fn parse(text: &str) -> Option<Element> {
        let (sort, rest) = text.split_once(':')?;
        Some(match sort {
            "f" => Element::Field(rest.to_owned()),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                let mut keys: Vec<(String, Value)> = keys.into_iter().collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Element::Key(keys)
            }
            "v" => Element::Value(serde_json::from_str(rest).ok()?),
            "i" => Element::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// The form in `fieldsV1`.
    pub fn written(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(keys) => {
                let fields: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                    .collect();
                format!("k:{{{}}}", fields.join(","))
            }
            Element::Value(value) => format!("v:{value}"),
            Element::Index(place) => format!("i:{place}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

/// As Kubernetes' messages name it: `.spec`, `[name="x"]`, `[="x"]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Element::Value(value) => write!(f, "[={value}]"),
            Element::Index(place) => write!(f, "[{place}]"),
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Element) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => {
                let pairs = a.iter().zip(b);
                let differs = pairs.map(|((a, x), (b, y))| a.cmp(b).then_with(|| compare(x, y)));
                differs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Element::Value(a), Element::Value(b)) => compare(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Element) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Element) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

/// An order of scalars: numbers, texts, booleans, then the rest by its text.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or(0.0).total_cmp(&y.as_f64().unwrap_or(0.0)),
        },
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (a, b) => {
            let rank = |value: &Value| match value {
                Value::Number(_) => 0,
                Value::String(_) => 1,
                Value::Bool(_) => 2,
                _ => 3,
            };
            rank(a).cmp(&rank(b)).then_with(|| match rank(a) {
                3 => a.to_string().cmp(&b.to_string()),
                _ => Ordering::Equal,
            })
        }
    }
}
