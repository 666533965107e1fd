//! Objects, lists and events of an API server as this node stores them: texts without `apiVersion` and `kind`, otherwise
//! as they came.

use std::fmt;

use kubeapi::stored::{Key, Stored};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::upstream::LIST_AGAIN;

/// What came is no object, list or event.
#[derive(Debug, thiserror::Error)]
#[error("the API server's answer does not read: {0}")]
pub(crate) struct BadObject(#[from] serde_json::Error);

/// The fields of an object, their values as text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reading).map(Fields)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    resource_version: String,
}

/// An object of `resource` (as in [`Key::resource`]) as text, in the version of `group`.
pub(crate) fn stored(resource: &str, group: &str, text: &str) -> Result<Stored, BadObject> {
    let Fields(fields) = serde_json::from_str(text)?;
    let metadata = fields.iter().find(|(name, _)| name == "metadata").map_or("{}", |(_, value)| value.get());
    let metadata: Metadata = serde_json::from_str(metadata)?;
    let mut body = String::with_capacity(text.len());
    for (name, value) in fields.iter().filter(|(name, _)| name != "kind" && name != "apiVersion") {
        body.push(if body.is_empty() { '{' } else { ',' });
        body.push_str(&serde_json::to_string(name)?);
        body.push(':');
        body.push_str(value.get());
    }
    if body.is_empty() {
        body.push_str("{\"metadata\":{}");
    }
    body.push('}');
    if group == kubeapi::events::GROUP {
        let mut event = serde_json::from_str(&body)?;
        kubeapi::events::to_stored(&mut event);
        body = event.to_string();
    }
    Ok(Stored {
        key: Key::new(resource, &metadata.namespace, &metadata.name),
        revision: metadata.resource_version.parse().unwrap_or(0),
        body: body.into(),
    })
}

/// A list, or a page of one.
#[derive(Debug)]
pub(crate) struct List {
    pub revision: i64,
    /// Empty: it ends here.
    pub continued: String,
    pub remaining: Option<i64>,
    pub items: Vec<Stored>,
}

pub(crate) fn list(resource: &str, group: &str, text: &[u8]) -> Result<List, BadObject> {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(default)]
        metadata: Page,
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Page {
        resource_version: String,
        r#continue: String,
        remaining_item_count: Option<i64>,
    }
    let Told { metadata, items } = serde_json::from_slice(text)?;
    let items = items.unwrap_or_default().into_iter().map(|item| stored(resource, group, item.get()));
    Ok(List {
        revision: metadata.resource_version.parse().unwrap_or(0),
        continued: metadata.r#continue,
        remaining: metadata.remaining_item_count,
        items: items.collect::<Result<_, _>>()?,
    })
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Told {
    Changed(Stored),
    Deleted(Stored),
    /// Nothing happened up to this revision beside what was told.
    Bookmark(i64),
    /// What happened since cannot be told: the state has to be listed ([`crate::upstream::LIST_AGAIN`]).
    ListAgain,
    /// Why it ends.
    Failed(Box<apimachinery::Status>),
}

/// One line of a watch.
pub(crate) fn event(resource: &str, group: &str, line: &[u8]) -> Result<Told, BadObject> {
    #[derive(Deserialize)]
    struct Line<'a> {
        r#type: String,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let Line { r#type, object } = serde_json::from_slice(line)?;
    Ok(match r#type.as_str() {
        "BOOKMARK" => Told::Bookmark(stored(resource, "", object.get())?.revision),
        LIST_AGAIN => Told::ListAgain,
        "ERROR" => Told::Failed(serde_json::from_str(object.get())?),
        "DELETED" => Told::Deleted(stored(resource, group, object.get())?),
        _ => Told::Changed(stored(resource, group, object.get())?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_kept_byte_for_byte_without_its_kind() {
        let text = r#"{"kind":"Valve","apiVersion":"x.io/v1","metadata":{"name":"a","namespace":"n","resourceVersion":"12"},"spec":{"big":1.50,"z":12345678901234567890,"a\"b":[ 1, 2 ]}}"#;
        let kept = stored("valves.x.io", "x.io", text).unwrap();
        assert_eq!((kept.key, kept.revision), (Key::new("valves.x.io", "n", "a"), 12));
        assert_eq!(format!(r#"{{"kind":"Valve","apiVersion":"x.io/v1",{}"#, &kept.body[1..]), text);
    }

    #[test]
    fn lists_and_events_read_and_what_breaks_off_does_not() {
        let text = br#"{"metadata":{"resourceVersion":"7","continue":"x"},"items":[{"metadata":{"name":"a","resourceVersion":"3"}}]}"#;
        let read = list("pods", "", text).unwrap();
        assert_eq!((read.revision, read.continued.as_str(), read.items.len()), (7, "x", 1));
        assert!(list("pods", "", &text[..text.len() - 2]).is_err());
        assert!(
            list("pods", "", br#"{"metadata":{"resourceVersion":"7"},"items":null}"#)
                .unwrap()
                .items
                .is_empty()
        );
        let line = br#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"9"}}}"#;
        assert!(matches!(event("pods", "", line).unwrap(), Told::Deleted(gone) if gone.revision == 9));
        let line =
            br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"m"}}"#;
        assert!(matches!(event("pods", "", line).unwrap(), Told::Failed(status) if status.code == 410));
    }
}
