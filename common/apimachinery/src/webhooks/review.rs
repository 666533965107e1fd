//! AdmissionReview, `admission.k8s.io/v1`: what a webhook is asked, and what it answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::configuration::Phase;
use super::rules::Operation;
use crate::Status;
use crate::object::{list, text};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A resource, and the kind of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// Group, version and plural; not those of the kind where an object of another kind is posted to a subresource.
    pub resource: (&'a str, &'a str, &'a str),
}

impl Named<'_> {
    fn kind(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }

    fn resource(&self) -> Value {
        let (group, version, resource) = self.resource;
        json!({"group": group, "version": version, "resource": resource})
    }
}

/// What a webhook is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Of this question; the answer repeats it.
    pub uid: &'a str,
    /// As the objects in the question are.
    pub about: Named<'a>,
    /// As it was requested.
    pub requested: Named<'a>,
    /// Empty: the object itself.
    pub subresource: &'a str,
    pub name: &'a str,
    /// Empty for what belongs to no namespace.
    pub namespace: &'a str,
    pub operation: Operation,
    /// `authentication.k8s.io/v1` UserInfo.
    pub user: &'a Value,
    /// Null when it is deleted.
    pub object: &'a Value,
    /// Null when it is new.
    pub old_object: &'a Value,
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions, DeleteOptions, or null.
    pub options: &'a Value,
}

impl Question<'_> {
    /// The AdmissionReview.
    pub fn to_json(&self) -> Value {
        let mut request = json!({
            "uid": self.uid,
            "kind": self.about.kind(),
            "resource": self.about.resource(),
            "requestKind": self.requested.kind(),
            "requestResource": self.requested.resource(),
            "operation": self.operation.as_str(),
            "userInfo": self.user,
            "object": self.object,
            "oldObject": self.old_object,
            "dryRun": self.dry_run,
            "options": self.options,
        });
        for (field, value) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ] {
            if !value.is_empty() {
                request[field] = json!(value);
            }
        }
        json!({"kind": KIND, "apiVersion": API_VERSION, "request": request})
    }
}

/// What a webhook says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// For who made the request, whatever becomes of it.
    pub warnings: Vec<String>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Allowed,
    /// Allowed, with this JSON patch (RFC 6902).
    Patched(Value),
    /// As the webhook says it.
    Denied(Status),
}

/// Why an answer is none (`VerifyAdmissionResponse` of apiserver/pkg/admission/plugin/webhook/request).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("expected webhook response of {API_VERSION}, Kind={KIND}, got {api_version}, Kind={kind}")]
    Kind { api_version: String, kind: String },
    #[error("webhook response was absent")]
    Absent,
    #[error("expected response.uid={expected:?}, got {got:?}")]
    Uid { expected: String, got: String },
    #[error("webhook returned response.patch but not response.patchType")]
    NoPatchType,
    #[error("webhook returned invalid response.patchType of {0:?}")]
    PatchType(String),
    #[error("validating webhooks may not return response.patch")]
    ValidatingPatch,
    #[error("response.patch is not a JSON patch in base64: {0}")]
    Patch(String),
}

impl Answer {
    pub fn allowed() -> Answer {
        Answer { warnings: Vec::new(), verdict: Verdict::Allowed }
    }

    /// Reads the AdmissionReview that answers the question `uid`.
    ///
    /// # Errors
    /// [`AnswerError`]: it is no answer to this question.
    pub fn read(review: &Value, uid: &str, phase: Phase) -> Result<Answer, AnswerError> {
        let (api_version, kind) = (text(review, "/apiVersion"), text(review, "/kind"));
        if (api_version, kind) != (API_VERSION, KIND) {
            return Err(AnswerError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() });
        }
        let response = &review["response"];
        if !response.is_object() {
            return Err(AnswerError::Absent);
        }
        let got = text(response, "/uid");
        if got != uid {
            return Err(AnswerError::Uid { expected: uid.to_owned(), got: got.to_owned() });
        }
        let warnings = list(response, "/warnings").iter().filter_map(Value::as_str).map(str::to_owned);
        let warnings = warnings.collect();
        let (patch, patch_type) = (text(response, "/patch"), response["patchType"].as_str());
        match (phase, patch.is_empty(), patch_type) {
            (Phase::Validating, false, _) => return Err(AnswerError::ValidatingPatch),
            (_, true, _) | (_, false, Some("JSONPatch")) => {}
            (_, false, None) => return Err(AnswerError::NoPatchType),
            (_, false, Some(other)) => return Err(AnswerError::PatchType(other.to_owned())),
        }
        let verdict = match (response["allowed"] == true, patch) {
            (false, _) => Verdict::Denied(denial(&response["status"])),
            (true, "") => Verdict::Allowed,
            (true, patch) => Verdict::Patched(decoded(patch)?),
        };
        Ok(Answer { warnings, verdict })
    }

    /// The AdmissionReview that answers the question `uid`.
    pub fn to_json(&self, uid: &str) -> Value {
        let mut response = json!({"uid": uid, "allowed": !matches!(self.verdict, Verdict::Denied(_))});
        match &self.verdict {
            Verdict::Allowed => {}
            Verdict::Patched(patch) => {
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(patch.to_string()));
            }
            Verdict::Denied(status) => response["status"] = status.to_json(),
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        json!({"kind": KIND, "apiVersion": API_VERSION, "response": response})
    }

    /// The `request` of an AdmissionReview that asks; `None`: it is not one of v1.
    pub fn question(review: &Value) -> Option<&Value> {
        let is_review = (text(review, "/apiVersion"), text(review, "/kind")) == (API_VERSION, KIND);
        review.get("request").filter(|request| is_review && !text(request, "/uid").is_empty())
    }
}

fn decoded(patch: &str) -> Result<Value, AnswerError> {
    let bytes = STANDARD.decode(patch).map_err(|error| AnswerError::Patch(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| AnswerError::Patch(error.to_string()))
}

/// A refusal without a code is 400, as kube-apiserver's.
fn denial(status: &Value) -> Status {
    let mut status: Status = serde_json::from_value(status.clone()).unwrap_or_default();
    if status.code < 400 {
        status.code = 400;
    }
    status
}

/// What who made the request is told of a denial (`ToStatusErr` of apiserver/pkg/admission/plugin/webhook/errors).
pub fn denied_by(webhook: &str, denial: Status) -> Status {
    let by = format!("admission webhook {webhook:?} denied the request");
    let message = match (denial.message.as_str(), &*denial.reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    Status { message, ..denial }
}
