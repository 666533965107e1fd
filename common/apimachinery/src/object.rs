//! Reading and writing the metadata of raw JSON objects. Missing and mistyped fields read as empty.

use serde_json::{Map, Value, json};

/// What is at a JSON pointer, as [`Value::pointer`] finds it, which copies each part of the pointer.
pub fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    let Some(parts) = pointer.strip_prefix('/').filter(|_| !pointer.contains('~')) else {
        return object.pointer(pointer);
    };
    parts.split('/').try_fold(object, |value, part| match value {
        Value::Object(map) => map.get(part),
        // Which index is one, and which is not.
        Value::Array(_) => value.pointer(&format!("/{part}")),
        _ => None,
    })
}

/// The string at a JSON pointer, or "".
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, or an empty one.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The integer at a JSON pointer.
pub fn integer(object: &Value, pointer: &str) -> Option<i64> {
    at(object, pointer).and_then(Value::as_i64)
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

pub fn deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

pub fn has_finalizers(object: &Value) -> bool {
    !list(object, "/metadata/finalizers").is_empty()
}

/// The map at `key` of a map, made if it is missing or not a map.
pub fn map_in<'a>(object: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let entry = object.entry(key.to_owned()).or_insert_with(|| json!({}));
    as_map(entry)
}

/// `value` as a map; anything else is replaced by an empty one.
pub fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Made one above.
        _ => unreachable!("value was just made a map"),
    }
}

/// The metadata of an object, made if missing.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    map_in(as_map(object), "metadata")
}

/// Sets `key` if it is missing or null.
pub fn set_default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

/// The entries of a list-valued key that are maps.
pub fn maps_in<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// True if no more than `levels` lists and maps lie in each other.
pub fn nests_within(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| levels > 0 && nests_within(value, levels - 1);
    match value {
        Value::Array(list) => list.iter().all(inner) && levels > 0,
        Value::Object(map) => map.values().all(inner) && levels > 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_finds_what_the_library_finds() {
        let object = json!({
            "": {"": 1}, "a": [{"b": "x"}, ["y"]], "m/n": {"o~p": 2}, "text": "t", "0": {"1": 3},
        });
        for pointer in [
            "",
            "/",
            "//",
            "/a",
            "/a/0/b",
            "/a/1/0",
            "/a/00",
            "/a/-",
            "/a/2",
            "/a/+1",
            "/m~1n/o~0p",
            "/text/0",
            "/0/1",
            "a",
            "/none/of",
            "/a/0/b/",
        ] {
            assert_eq!(at(&object, pointer), object.pointer(pointer), "{pointer}");
        }
    }
}
