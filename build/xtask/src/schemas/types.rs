//! The table of types (`apimachinery::schemas::format`) from definitions.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use apimachinery::schemas::definitions::PREFIX;
use apimachinery::schemas::format::{MAGIC, PRESENT, flag, kind};
use serde_json::Value;

use super::strings::Strings;

/// Defaults of fields that are keys of lists, beside those of required ones, which have Go's zero. The document of OpenAPI v2 has no defaults; these are in the one of v3
/// (`api/openapi-spec/v3/api__v1_openapi.json`).
const DEFAULTS: [(&str, &str, &str); 2] = [
    ("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP"),
];

/// Fields whose Go type is a struct and no pointer to one, so that objects made by Kubernetes always have them.
const PRESENT_STRUCTS: [&str; 19] = [
    "acceptedNames",
    "daemonEndpoints",
    "deprecatedSource",
    "involvedObject",
    "jobTemplate",
    "kubeletEndpoint",
    "loadBalancer",
    "metadata",
    "names",
    "nodeInfo",
    "regarding",
    "resources",
    "roleRef",
    "source",
    "spec",
    "status",
    "strategy",
    "template",
    "updateStrategy",
];

type Node = (u8, u8, u16, u16, u16);

#[derive(Default)]
struct Builder {
    strings: Strings,
    nodes: Vec<Node>,
    known: HashMap<Node, u16>,
    /// (first field, fields) of each definition that is a struct.
    spans: HashMap<String, (u16, u16)>,
    keys: Vec<u16>,
    known_keys: HashMap<Vec<String>, u16>,
}

pub(super) fn table(definitions: &BTreeMap<String, Value>) -> Result<Vec<u8>> {
    let mut builder = Builder::default();
    let mut fields: u16 = 0;
    for (name, schema) in definitions {
        if let Some(properties) = schema["properties"].as_object() {
            let count = short(properties.len())?;
            builder.spans.insert(name.clone(), (fields, count));
            fields = fields.checked_add(count).context("too many fields")?;
        }
    }
    let mut lines: Vec<[u16; 4]> = Vec::new();
    let mut roots: Vec<(String, String, String, u16)> = Vec::new();
    for (name, schema) in definitions {
        let mut properties: Vec<(&String, &Value)> =
            schema["properties"].as_object().into_iter().flatten().collect();
        properties.sort_by_key(|(key, _)| key.as_str());
        for (key, property) in properties {
            let of = builder.node(property, definitions)?;
            let default = DEFAULTS.iter().find(|(owner, field, _)| *owner == name && field == key);
            let required = schema["required"].as_array().is_some_and(|list| list.iter().any(|n| n == key));
            let kind = builder.nodes[usize::from(of)].0;
            let default = match (default, kind) {
                (Some((_, _, text)), _) => Some(*text),
                (None, kind::STRING) if required => Some(""),
                (None, kind::INT32 | kind::INT64) if required => Some("0"),
                _ => None,
            };
            let default = match default {
                Some(text) => short(builder.strings.index(text) + 1)?,
                None => 0,
            };
            let present = match kind {
                kind::STRUCT => PRESENT_STRUCTS.contains(&key.as_str()),
                kind::LIST => required,
                _ => false,
            };
            lines.push([short(builder.strings.index(key))?, of, default, if present { PRESENT } else { 0 }]);
        }
        let own = builder.definition(name, definitions)?;
        for (group, version, kind) in super::kinds(schema) {
            roots.push((group.to_owned(), version.to_owned(), kind.to_owned(), own));
        }
    }
    roots.sort();
    roots.dedup();
    builder.write(&lines, &roots)
}

fn short(number: usize) -> Result<u16> {
    u16::try_from(number).context("the document has more than the table can number")
}

impl Builder {
    fn add(&mut self, node: Node) -> Result<u16> {
        if let Some(known) = self.known.get(&node) {
            return Ok(*known);
        }
        let number = short(self.nodes.len())?;
        self.nodes.push(node);
        self.known.insert(node, number);
        Ok(number)
    }

    fn definition(&mut self, name: &str, definitions: &BTreeMap<String, Value>) -> Result<u16> {
        let schema = definitions.get(name).with_context(|| format!("no definition {name}"))?;
        let node = self.of_definition(name, schema, definitions)?;
        self.add(node)
    }

    fn of_definition(
        &mut self,
        name: &str,
        schema: &Value,
        definitions: &BTreeMap<String, Value>,
    ) -> Result<Node> {
        let last = name.rsplit('.').next().unwrap_or_default();
        let scalar = match (last, name.contains("apimachinery")) {
            ("Quantity", true) => Some(kind::QUANTITY),
            ("IntOrString", true) => Some(kind::INT_OR_STRING),
            ("Time", true) => Some(kind::TIME),
            ("MicroTime", true) => Some(kind::MICRO_TIME),
            _ => None,
        };
        match (scalar, self.spans.get(name)) {
            (Some(scalar), _) => Ok((scalar, 0, 0, 0, 0)),
            (None, Some((first, count))) => {
                let (first, count) = (*first, *count);
                let name = short(self.strings.index(&go_name(name)) + 1)?;
                Ok((kind::STRUCT, relation(schema), first, count, name))
            }
            (None, None) => self.inline(schema, definitions),
        }
    }

    fn node(&mut self, schema: &Value, definitions: &BTreeMap<String, Value>) -> Result<u16> {
        let mut node = match schema["$ref"].as_str() {
            Some(reference) => {
                let name = reference.strip_prefix(PREFIX).context("a reference leads elsewhere")?;
                let target = definitions.get(name).with_context(|| format!("no definition {name}"))?;
                let mut node = self.of_definition(name, target, definitions)?;
                if schema["x-kubernetes-map-type"] == "granular" {
                    node.1 &= !flag::ATOMIC;
                }
                node.1 |= relation(schema);
                node
            }
            None => self.inline(schema, definitions)?,
        };
        let strategy = schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
        for word in strategy.split(',') {
            node.1 |= match word {
                "merge" => flag::MERGE,
                "retainKeys" => flag::RETAIN_KEYS,
                _ => 0,
            };
        }
        if let Some(key) = schema["x-kubernetes-patch-merge-key"].as_str()
            && node.0 == kind::LIST
        {
            node.4 = short(self.strings.index(key) + 1)?;
        }
        self.add(node)
    }

    fn inline(&mut self, schema: &Value, definitions: &BTreeMap<String, Value>) -> Result<Node> {
        let format = schema["format"].as_str().unwrap_or_default();
        Ok(match schema["type"].as_str() {
            None => (kind::ANY, 0, 0, 0, 0),
            Some("boolean") => (kind::BOOLEAN, 0, 0, 0, 0),
            Some("number") => (kind::NUMBER, 0, 0, 0, 0),
            Some("integer") if format == "int32" => (kind::INT32, 0, 0, 0, 0),
            Some("integer") => (kind::INT64, 0, 0, 0, 0),
            Some("string") => match format {
                "byte" => (kind::BYTES, 0, 0, 0, 0),
                "date-time" => (kind::TIME, 0, 0, 0, 0),
                "int-or-string" => (kind::INT_OR_STRING, 0, 0, 0, 0),
                _ => (kind::STRING, 0, 0, 0, 0),
            },
            Some("object") => match schema.get("additionalProperties") {
                Some(values) => (kind::MAP, relation(schema), self.node(values, definitions)?, 0, 0),
                None => (kind::ANY, 0, 0, 0, 0),
            },
            Some("array") => {
                let items = self.node(&schema["items"], definitions)?;
                let (flags, keys) = self.list(schema)?;
                (kind::LIST, flags, items, keys, 0)
            }
            Some(other) => bail!("a schema of type {other}"),
        })
    }

    /// How a list is owned: by `x-kubernetes-list-type`, else by how it is patched, as Kubernetes reads it (kube-openapi,
    /// `schemaconv`).
    fn list(&mut self, schema: &Value) -> Result<(u8, u16)> {
        let patched = schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
        let keys: Vec<String> = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => return Ok((flag::SET, 0)),
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                keys.filter_map(Value::as_str).map(str::to_owned).collect()
            }
            None if patched.starts_with("merge") => match schema["x-kubernetes-patch-merge-key"].as_str() {
                Some(key) => vec![key.to_owned()],
                None => return Ok((flag::SET, 0)),
            },
            _ => return Ok((0, 0)),
        };
        if let Some(known) = self.known_keys.get(&keys) {
            return Ok((flag::KEYED, *known));
        }
        let place = short(self.keys.len())?;
        self.keys.push(short(keys.len())?);
        for key in &keys {
            let number = short(self.strings.index(key))?;
            self.keys.push(number);
        }
        self.known_keys.insert(keys, place);
        Ok((flag::KEYED, place))
    }

    fn write(mut self, fields: &[[u16; 4]], roots: &[(String, String, String, u16)]) -> Result<Vec<u8>> {
        let mut root_lines = Vec::new();
        for (group, version, kind, node) in roots {
            root_lines.push([
                short(self.strings.index(group))?,
                short(self.strings.index(version))?,
                short(self.strings.index(kind))?,
                *node,
            ]);
        }
        let mut out = MAGIC.to_vec();
        let strings = self.strings.all();
        for count in [strings.len(), self.nodes.len(), fields.len(), self.keys.len(), root_lines.len()] {
            out.extend(short(count)?.to_le_bytes());
        }
        let mut offset: u32 = 0;
        for text in strings {
            out.extend(offset.to_le_bytes());
            offset += u32::try_from(text.len())?;
        }
        out.extend(offset.to_le_bytes());
        for (kind, flags, a, b, key) in &self.nodes {
            out.extend([*kind, *flags]);
            for number in [a, b, key] {
                out.extend(number.to_le_bytes());
            }
        }
        for number in fields.iter().flatten().chain(&self.keys).chain(root_lines.iter().flatten()) {
            out.extend(number.to_le_bytes());
        }
        for text in strings {
            out.extend(text.as_bytes());
        }
        Ok(out)
    }
}

/// `v1.Container` for `io.k8s.api.core.v1.Container`, as Go names it.
fn go_name(definition: &str) -> String {
    let mut parts = definition.rsplitn(3, '.');
    let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{name}")
}

/// How a map is owned.
fn relation(schema: &Value) -> u8 {
    if schema["x-kubernetes-map-type"] == "atomic" { flag::ATOMIC } else { 0 }
}
