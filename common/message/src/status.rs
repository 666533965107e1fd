//! `metav1.Status`, the API server's way to say no.

use serde::{Deserialize, Serialize};

/// A failure as Kubernetes words it. `code` is the HTTP status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code} {reason}: {message}")]
#[serde(default)]
pub struct Status {
    pub metadata: Box<serde_json::Map<String, serde_json::Value>>,
    pub status: String,
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<serde_json::Value>>,
    pub code: u16,
}

impl Status {
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Status {
        Status {
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code,
            ..Status::default()
        }
    }
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }
    pub fn is_conflict(&self) -> bool {
        self.code == 409
    }
    /// True when the same request may succeed later: server trouble, throttling, timeouts.
    pub fn is_retryable(&self) -> bool {
        is_retryable(self.code)
    }
}

/// [`Status::is_retryable`] of a bare HTTP status; 0 is none at all.
pub fn is_retryable(code: u16) -> bool {
    matches!(code, 0 | 408 | 429 | 500..=599)
}
