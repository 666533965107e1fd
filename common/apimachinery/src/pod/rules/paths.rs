//! Paths in a spec: none steps back, those inside a volume stay there.

use serde_json::json;

use crate::Cause;

pub(super) fn no_backsteps(field: &str, path: &str, causes: &mut Vec<Cause>) {
    if path.split('/').any(|part| part == "..") {
        causes.push(Cause::invalid(field, &json!(path), "must not contain '..'"));
    }
}

/// Relative, and below where it begins.
pub(super) fn descending(field: &str, path: &str, causes: &mut Vec<Cause>) {
    if path.starts_with('/') {
        causes.push(Cause::invalid(field, &json!(path), "must be a relative path"));
    }
    no_backsteps(field, path, causes);
}

/// The path of a file in a volume that is filled from the API; names that begin with two dots are the writer's own.
pub(super) fn payload(field: &str, path: &str, causes: &mut Vec<Cause>) {
    if path.is_empty() {
        return causes.push(Cause::required(field, ""));
    }
    let before = causes.len();
    descending(field, path, causes);
    if causes.len() == before && path.starts_with("..") {
        causes.push(Cause::invalid(field, &json!(path), "must not start with '..'"));
    }
}
