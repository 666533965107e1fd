//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch, and what stands in for apply.

mod merge;
mod strategic;

use serde_json::Value;

use crate::Status;

pub use merge::merge;
pub use strategic::strategic_merge;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    /// Server-side apply. Handled as create-or-merge: fields the manifest no longer has are not removed, and no
    /// ownership of fields is kept.
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

/// Applies `patch` to `object`. `builtin` resources know merge keys; custom resources do not, and refuse strategic
/// patches with 415.
pub fn apply(kind: PatchKind, object: &Value, patch: &Value, builtin: bool) -> Result<Value, Status> {
    let mut out = object.clone();
    match kind {
        PatchKind::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Status::bad_request(error.to_string()))?;
            if patch.0.len() > MAX_OPERATIONS {
                return Err(Status::too_large(MAX_OPERATIONS));
            }
            let invalid = |error: json_patch::PatchError| {
                Status::new(
                    422,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                )
            };
            json_patch::patch(&mut out, &patch).map_err(invalid)?;
        }
        PatchKind::Strategic if !builtin => {
            let accepted =
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Err(Status::unsupported_media_type("application/strategic-merge-patch+json", accepted));
        }
        PatchKind::Merge => require_map(patch).map(|()| merge(&mut out, patch))?,
        PatchKind::Apply if !builtin => require_map(patch).map(|()| merge(&mut out, patch))?,
        PatchKind::Strategic | PatchKind::Apply => {
            require_map(patch)?;
            out = strategic_merge(object, patch).map_err(|error| Status::bad_request(error.to_string()))?;
        }
    }
    match out {
        Value::Object(_) => Ok(out),
        _ => Err(Status::bad_request("the patch turns the object into something else")),
    }
}

fn require_map(patch: &Value) -> Result<(), Status> {
    match patch {
        Value::Object(_) => Ok(()),
        _ => Err(Status::bad_request("the patch is not a JSON object")),
    }
}
