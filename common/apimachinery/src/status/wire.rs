//! The JSON of a status, without `kind` and `apiVersion`, as it is in KubeEdge's error answers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{About, Cause};

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    /// List metadata, which no failure has.
    metadata: Map<String, Value>,
    status: Cow<'static, str>,
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    code: u16,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<DetailCause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct DetailCause {
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: Cow<'static, str>,
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
}

impl From<super::Status> for Status {
    fn from(status: super::Status) -> Status {
        let super::Status { code, reason, message, about, causes, retry_after } = status;
        // Some are about nothing that has a name, and say so.
        let has_details = about.is_some();
        let About { group, kind, name, uid } = about.map(|about| *about).unwrap_or_default();
        let cause = |Cause { reason, message, field }| DetailCause { reason, message, field };
        let causes = causes.into_iter().map(cause).collect();
        let details = Details { name, group, kind, uid, causes, retry_after_seconds: retry_after };
        let details = (has_details || details != Details::default()).then(|| Box::new(details));
        let metadata = Map::new();
        Status { metadata, status: Cow::Borrowed("Failure"), message, reason, details, code }
    }
}

impl From<Status> for super::Status {
    fn from(status: Status) -> super::Status {
        let is_bare = status.details.as_ref().is_some_and(|details| **details == Details::default());
        let details = status.details.map(|details| *details).unwrap_or_default();
        let Details { name, group, kind, uid, causes, retry_after_seconds } = details;
        let about = About { group, kind, name, uid };
        let cause = |DetailCause { reason, message, field }| Cause { reason, message, field };
        super::Status {
            code: status.code,
            reason: status.reason,
            message: status.message,
            about: (is_bare || about != About::default()).then(|| Box::new(about)),
            causes: causes.into_iter().map(cause).collect(),
            retry_after: retry_after_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cause, Status};
    use serde_json::json;

    #[test]
    fn a_status_reads_back_with_what_it_is_about() {
        let causes = vec![Cause::required("spec.x", "say it")];
        let status = Status { retry_after: Some(3), ..Status::invalid("apps", "Deployment", "d", causes) };
        assert_eq!(serde_json::from_value::<Status>(status.to_json()).unwrap(), status);
    }

    #[test]
    fn fields_have_kubernetes_order_and_what_is_empty_is_left_out() {
        let text = serde_json::to_string(&Status::new(409, "Conflict", "changed")).unwrap();
        let expected =
            r#"{"metadata":{},"status":"Failure","message":"changed","reason":"Conflict","code":409}"#;
        assert_eq!(text, expected);
        let object = Status::not_found("", "pods", "p").to_json();
        assert_eq!(object["details"], json!({"name": "p", "kind": "pods"}));
        assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Status"), &json!("v1")));
    }
}
