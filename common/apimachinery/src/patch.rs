//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), and strategic merge patch.

mod json;
mod merge;
mod strategic;

use serde_json::Value;

use crate::Status;
use crate::schemas::Type;

pub use merge::merge;
pub use strategic::strategic_merge;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    /// Server-side apply: see [`crate::fields`].
    Apply,
}

impl PatchKind {
    /// The kind named by a `Content-Type`.
    pub fn of(content_type: &str) -> Option<PatchKind> {
        Some(match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" => PatchKind::Strategic,
            "application/apply-patch+yaml" | "application/apply-patch+json" => PatchKind::Apply,
            _ => return None,
        })
    }
}

/// Most operations of one JSON patch, Kubernetes' own limit.
const MAX_OPERATIONS: usize = 10_000;

/// Bytes all copies of one JSON patch may make together: as large as a request may be, as in Kubernetes.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Bytes of a value as JSON.
fn size(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A value that was read can be written, and counting does not fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// Applies `patch` to `object`. Strategic patches take its type; custom resources have none, and refuse them with 415.
///
/// # Errors
/// A [`Status`] as the API server gives it: 415 for a kind of patch the resource does not take, 422 or 400 for one
/// that does not apply.
pub fn apply(kind: PatchKind, object: &Value, patch: &Value, of: Option<Type>) -> Result<Value, Status> {
    apply_to(kind, object.clone(), patch, of)
}

/// [`apply`] to an object that is not needed as it was.
///
/// # Errors
/// As [`apply`].
pub fn apply_to(kind: PatchKind, object: Value, patch: &Value, of: Option<Type>) -> Result<Value, Status> {
    let mut out = object;
    match kind {
        PatchKind::Json => json::patch(&mut out, patch)?,
        PatchKind::Merge => require_map(patch).map(|()| merge(&mut out, patch))?,
        // Needs to know who owns what.
        PatchKind::Apply => return Err(Status::internal("apply is no patch of an object alone")),
        PatchKind::Strategic => {
            let Some(of) = of else {
                let accepted =
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
                return Err(Status::unsupported_media_type(accepted));
            };
            require_map(patch)?;
            out = strategic_merge(out, patch, of).map_err(|error| Status::bad_request(error.to_string()))?;
        }
    }
    match out {
        Value::Object(_) => Ok(out),
        _ => Err(Status::bad_request("the patch turns the object into something else")),
    }
}

/// Applies a JSON patch, unless a test of it fails: then there is nothing to do.
///
/// # Errors
/// As [`apply`].
pub fn apply_tested(object: &Value, patch: &Value) -> Result<Option<Value>, Status> {
    let mut out = object.clone();
    match json::tested(&mut out, patch)? {
        Some(_) => Ok(None),
        None if out.is_object() => Ok(Some(out)),
        None => Err(Status::bad_request("the patch turns the object into something else")),
    }
}

/// The JSON patch (RFC 6902) that makes `after` of `before`.
pub fn difference(before: &Value, after: &Value) -> Value {
    // Operations are texts and values, which can be encoded.
    serde_json::to_value(json_patch::diff(before, after)).unwrap_or_default()
}

fn require_map(patch: &Value) -> Result<(), Status> {
    match patch {
        Value::Object(_) => Ok(()),
        _ => Err(Status::bad_request("the patch is not a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_that_copies_more_than_a_request_may_hold_is_refused() {
        let object = json!({"data": {"a": "x".repeat(1024)}});
        let copy = |from: &str, path: &str| json!({"op": "copy", "from": from, "path": path});
        let few: Value = (0..100).map(|at| copy("/data/a", &format!("/data/b{at}"))).collect();
        assert!(apply(PatchKind::Json, &object, &few, None).is_ok());
        // Each operation doubles what is there.
        let many: Value = (0..16).map(|at| copy("/data", &format!("/data/c{at}"))).collect();
        assert_eq!(apply(PatchKind::Json, &object, &many, None).unwrap_err().code, 413);
    }

    #[test]
    fn a_difference_leads_from_one_object_to_the_other() {
        let before = json!({"metadata": {"name": "a"}, "spec": {"list": [1, 2, 3], "x": 1}});
        let after =
            json!({"metadata": {"name": "a", "annotations": {"b.io/c": "d"}}, "spec": {"list": [1, 4]}});
        let patch = difference(&before, &after);
        assert_eq!(apply(PatchKind::Json, &before, &patch, None).unwrap(), after);
        assert_eq!(difference(&after, &after), json!([]));
    }

    #[test]
    fn the_operation_that_fails_is_named() {
        let patch = json!([{"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}]);
        let status = apply(PatchKind::Json, &json!({}), &patch, None).unwrap_err();
        assert_eq!(status.code, 422);
        assert!(status.message.contains("operation '/1'"), "{}", status.message);
    }
}
