//! What CloudCore itself needs of a device. The rest, which may be a hundred times as much, is the edge's business.

use message::Json;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Outline {
    pub description: String,
    /// The node it belongs to; empty if none.
    pub node: String,
    pub model: Option<String>,
    /// Names of its properties.
    pub properties: Vec<String>,
    /// Hash of its `spec` as the API server wrote it. Servers write one state of an object always alike.
    pub spec: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    description: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    device_model_ref: Option<Named>,
    properties: Option<Vec<Named>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

impl Outline {
    /// `None`: it cannot be read.
    pub(super) fn read(object: &Json) -> Option<Outline> {
        let Object { metadata, spec } = serde_json::from_str(object.text()).ok()?;
        let text = spec.map_or("{}", RawValue::get);
        let spec: Spec = serde_json::from_str(text).ok()?;
        Some(Outline {
            description: metadata.labels.unwrap_or_default().description,
            node: spec.node_name.unwrap_or_default(),
            model: spec.device_model_ref.map(|model| model.name),
            properties: spec.properties.unwrap_or_default().into_iter().map(|named| named.name).collect(),
            spec: native::text_hash(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Outline> {
        Outline::read(&Json::from_text(text.to_owned()).unwrap())
    }

    #[test]
    fn what_is_needed_is_found_among_the_rest() {
        let text = r#"{"kind":"Device","metadata":{"labels":{"description":"a pump","x":"y"}},"spec":{"deviceModelRef":{"name":"m"},
            "nodeName":"e1","properties":[{"name":"on","visitors":{"configData":{"register":"Coil"}}},{"name":"speed"}]},"status":{"x":1}}"#;
        let outline = read(text).unwrap();
        assert_eq!((outline.node.as_str(), outline.description.as_str()), ("e1", "a pump"));
        assert_eq!(outline.model.as_deref(), Some("m"));
        assert_eq!(outline.properties, ["on", "speed"]);
        let status = read(&text.replace(r#""status":{"x":1}"#, r#""status":{"x":2}"#)).unwrap();
        assert_eq!(outline, status);
        assert_ne!(outline.spec, read(&text.replace("Coil", "Input")).unwrap().spec);
    }

    #[test]
    fn what_is_missing_or_null_is_empty_and_what_has_another_type_cannot_be_read() {
        for text in
            ["{}", r#"{"metadata":{},"spec":null}"#, r#"{"spec":{"properties":null,"nodeName":null}}"#]
        {
            let outline = read(text).unwrap();
            assert_eq!((outline.node.as_str(), outline.properties.len()), ("", 0), "{text}");
        }
        for text in ["7", r#"{"spec":{"nodeName":7}}"#, r#"{"spec":{"properties":{"a":1}}}"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
