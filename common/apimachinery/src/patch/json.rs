//! JSON patch as Kubernetes applies it: RFC 6902, and what `gopkg.in/evanphx/json-patch.v4` takes beside it. A member that is missing reads as
//! null, so it can be replaced, tested and copied; a position may be negative, counted from the end, or have leading zeros.

use serde_json::Value;

use super::{MAX_COPIED, MAX_OPERATIONS, size};
use crate::Status;

/// Applies all operations, or none.
///
/// # Errors
/// 400 for what is no list of operations, 413 for too many and too large copies, 422 for one that does not apply.
pub(super) fn patch(object: &mut Value, patch: &Value) -> Result<(), Status> {
    match tested(object, patch)? {
        None => Ok(()),
        Some(failed) => Err(failed),
    }
}

/// [`patch`], which tells apart what does not apply because a test of it fails: the Status that is then answered.
pub(super) fn tested(object: &mut Value, patch: &Value) -> Result<Option<Status>, Status> {
    let operations = patch
        .as_array()
        .filter(|list| list.iter().all(Value::is_object))
        .ok_or_else(|| Status::bad_request("the patch is not a list of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::too_large(MAX_OPERATIONS));
    }
    let mut copied = 0;
    for (at, operation) in operations.iter().enumerate() {
        let refused = |path: String, why: String| {
            Status::new(
                422,
                "Invalid",
                format!(
                    "the server rejected our request due to an error in our request: operation '/{at}' failed at path '{path}': {why}"
                ),
            )
        };
        match apply(object, operation, &mut copied) {
            Ok(()) => {}
            Err(Fault::TooLarge) => return Err(Status::too_large(MAX_COPIED)),
            Err(Fault::Inapplicable { path, why }) => return Err(refused(path, why)),
            Err(Fault::Untrue { path }) => {
                return Ok(Some(refused(path, "the value is another one".to_owned())));
            }
        }
    }
    Ok(None)
}

enum Fault {
    TooLarge,
    Inapplicable {
        path: String,
        why: String,
    },
    /// A test fails.
    Untrue {
        path: String,
    },
}

fn apply(object: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), Fault> {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let path = text("path").unwrap_or_default();
    let wrong = |why: &str| Fault::Inapplicable { path: path.to_owned(), why: why.to_owned() };
    let from = || text("from").ok_or_else(|| wrong("the operation has no from"));
    if text("path").is_none() {
        return Err(wrong("the operation has no path"));
    }
    let value = operation.get("value").cloned().unwrap_or_default();
    match text("op").unwrap_or_default() {
        "add" => add(object, path, value).map_err(wrong),
        "remove" => remove(object, path).map(drop).map_err(wrong),
        "replace" => replace(object, path, value).map_err(wrong),
        "move" => {
            let moved = remove(object, from()?).map_err(wrong)?;
            add(object, path, moved).map_err(wrong)
        }
        "copy" => {
            let copy = read(object, from()?).map_err(wrong)?.cloned().unwrap_or_default();
            *copied += size(&copy);
            if *copied > MAX_COPIED {
                return Err(Fault::TooLarge);
            }
            add(object, path, copy).map_err(wrong)
        }
        "test" => {
            let found = read(object, path).map_err(wrong)?.unwrap_or(&Value::Null);
            if equal(found, &value) { Ok(()) } else { Err(Fault::Untrue { path: path.to_owned() }) }
        }
        _ => Err(wrong("there is no such operation")),
    }
}

/// Numbers are equal by what they are, not by how they are written.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || a.as_f64() == b.as_f64() && a.is_f64() != b.is_f64()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => a == b,
    }
}

const NO_PARENT: &str = "the path leads nowhere";
const NO_PLACE: &str = "there is no such position";

/// The parts of a path with what is escaped in them; `None` for the whole object.
fn split(path: &str) -> Result<Option<(Vec<String>, String)>, &'static str> {
    if path.is_empty() {
        return Ok(None);
    }
    let parts = path.strip_prefix('/').ok_or("a path begins with a slash")?;
    let mut parts: Vec<String> =
        parts.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    let last = parts.pop().unwrap_or_default();
    Ok(Some((parts, last)))
}

fn parent<'a>(object: &'a mut Value, parts: &[String]) -> Result<&'a mut Value, &'static str> {
    parts.iter().try_fold(object, |value, part| {
        let found = match value {
            Value::Object(map) => map.get_mut(part),
            Value::Array(list) => {
                let at = position(part, list.len())?;
                list.get_mut(at)
            }
            _ => None,
        };
        found.ok_or(NO_PARENT)
    })
}

/// A position in a list of this length; the length itself is behind the last.
fn position(part: &str, length: usize) -> Result<usize, &'static str> {
    let at: i64 = part.parse().map_err(|_| NO_PLACE)?;
    let length = i64::try_from(length).map_err(|_| NO_PLACE)?;
    let at = if at < 0 { at + length } else { at };
    usize::try_from(at).ok().filter(|_| at <= length).ok_or(NO_PLACE)
}

/// What is at a path; `None`: its parent has no such member.
fn read<'a>(object: &'a mut Value, path: &str) -> Result<Option<&'a Value>, &'static str> {
    let Some((parts, last)) = split(path)? else { return Ok(Some(object)) };
    match parent(object, &parts)? {
        Value::Object(map) => Ok(map.get(&last)),
        Value::Array(list) => {
            let at = position(&last, list.len())?;
            list.get(at).map(Some).ok_or(NO_PLACE)
        }
        _ => Err(NO_PARENT),
    }
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), &'static str> {
    let Some((parts, last)) = split(path)? else {
        *object = value;
        return Ok(());
    };
    match parent(object, &parts)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            // Counted from behind the last: -1 appends.
            let length = list.len();
            let at = match last.starts_with('-') {
                true => position(&last, length + 1)?,
                false => position(&last, length)?,
            };
            list.insert(at.min(length), value);
        }
        _ => return Err(NO_PARENT),
    }
    Ok(())
}

fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), &'static str> {
    let Some((parts, last)) = split(path)? else {
        *object = value;
        return Ok(());
    };
    match parent(object, &parts)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) => {
            let at = position(&last, list.len())?;
            *list.get_mut(at).ok_or(NO_PLACE)? = value;
        }
        _ => return Err(NO_PARENT),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, &'static str> {
    let (parts, last) = split(path)?.ok_or("the whole object cannot be removed")?;
    match parent(object, &parts)? {
        Value::Object(map) => map.remove(&last).ok_or("there is nothing to remove"),
        Value::Array(list) => {
            let at = position(&last, list.len())?;
            if at < list.len() { Ok(list.remove(at)) } else { Err(NO_PLACE) }
        }
        _ => Err(NO_PARENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(object: Value, operation: Value, wanted: Option<Value>) {
        let mut out = object;
        let done = patch(&mut out, &json!([operation]));
        assert_eq!(done.is_ok().then_some(out), wanted, "{operation}: {done:?}");
    }

    #[test]
    fn the_operations_of_rfc_6902_are_applied() {
        check(json!({"a": 1}), json!({"op": "add", "path": "/b", "value": 2}), Some(json!({"a": 1, "b": 2})));
        check(
            json!({"a": [1, 3]}),
            json!({"op": "add", "path": "/a/1", "value": 2}),
            Some(json!({"a": [1, 2, 3]})),
        );
        check(
            json!({"a": [1]}),
            json!({"op": "add", "path": "/a/-", "value": 2}),
            Some(json!({"a": [1, 2]})),
        );
        check(
            json!({"a/b": {"~": 1}}),
            json!({"op": "remove", "path": "/a~1b/~0"}),
            Some(json!({"a/b": {}})),
        );
        check(
            json!({"a": [1, 2]}),
            json!({"op": "replace", "path": "/a/0", "value": 3}),
            Some(json!({"a": [3, 2]})),
        );
        check(json!({"a": 1}), json!({"op": "move", "from": "/a", "path": "/b"}), Some(json!({"b": 1})));
        check(
            json!({"a": 1}),
            json!({"op": "copy", "from": "/a", "path": "/b"}),
            Some(json!({"a": 1, "b": 1})),
        );
        check(json!({"a": 1}), json!({"op": "test", "path": "/a", "value": 1}), Some(json!({"a": 1})));
        for bad in [
            json!({"op": "test", "path": "/a", "value": 2}),
            json!({"op": "remove", "path": "/b"}),
            json!({"op": "move", "from": "/b", "path": "/c"}),
            json!({"op": "add", "path": "/b/c", "value": 1}),
            json!({"op": "add", "path": "b", "value": 1}),
            json!({"op": "swap", "path": "/a"}),
            json!({"op": "remove"}),
            json!({"op": "copy", "path": "/a"}),
        ] {
            check(json!({"a": 1}), bad, None);
        }
    }

    #[test]
    fn what_kubernetes_takes_beside_the_rfc_is_taken() {
        check(json!({}), json!({"op": "replace", "path": "/a", "value": 1}), Some(json!({"a": 1})));
        check(json!({}), json!({"op": "test", "path": "/a", "value": null}), Some(json!({})));
        check(json!({}), json!({"op": "copy", "from": "/a", "path": "/b"}), Some(json!({"b": null})));
        check(json!({}), json!({"op": "add", "path": "/a"}), Some(json!({"a": null})));
        check(
            json!({"a": [1, 2]}),
            json!({"op": "replace", "path": "/a/01", "value": 3}),
            Some(json!({"a": [1, 3]})),
        );
        check(json!({"a": [1, 2]}), json!({"op": "remove", "path": "/a/-1"}), Some(json!({"a": [1]})));
        check(
            json!({"a": [1, 2]}),
            json!({"op": "add", "path": "/a/-1", "value": 3}),
            Some(json!({"a": [1, 2, 3]})),
        );
        check(json!({"a": [1]}), json!({"op": "replace", "path": "/a/1", "value": 3}), None);
        check(json!({"a": [1]}), json!({"op": "remove", "path": "/a/-2"}), None);
        check(json!({"a": [1]}), json!({"op": "add", "path": "/a/3", "value": 3}), None);
    }
}
