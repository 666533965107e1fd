//! Admission webhooks: who is asked about what (`admissionregistration.k8s.io/v1`), the question and the answer
//! (`admission.k8s.io/v1`). Behaviour is that of `apiserver/pkg/admission/plugin/webhook`.
//!
//! ```text
//! configuration --complete, problems--> stored --read--> Webhook: do its rules match? --> Question --> Answer
//! ```

mod client;
mod configuration;
mod matching;
mod problems;
mod review;
mod rules;
#[cfg(test)]
mod tests;

pub use client::{Client, Url, UrlError};
pub use configuration::{Phase, Webhook, complete, read};
pub use matching::Matching;
pub use problems::{problems, rule_problems};
pub use review::{Answer, AnswerError, Named, Question, Verdict, denied_by};
pub use rules::{Asked, Operation, Rule};
