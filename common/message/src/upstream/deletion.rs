//! How an edge asks for the deletion of a pod.

use super::ParseUpstreamError;
use crate::Json;

/// Very old edges send the pod's uid as a string: grace 0 with that uid as precondition (docs/protocol/transport.md 1.8).
pub(super) fn options(content: &Json) -> Result<Json, ParseUpstreamError> {
    let text = content.data();
    if text.starts_with('{') {
        return Json::from_text(text).map_err(ParseUpstreamError::Content);
    }
    let options = serde_json::json!({"gracePeriodSeconds": 0, "preconditions": {"uid": text}});
    Ok(Json::of(&options))
}
