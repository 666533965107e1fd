//! One question to one webhook.

use apimachinery::Status;
use apimachinery::webhooks::{Answer, Phase, Question, Verdict, denied_by};
use serde_json::Value;
use tokio::time::Instant;

use super::exchange::{AskError, exchange};
use super::forms::{Form, Forms};
use super::{Change, Objects};
use crate::reach::{self, ReachError};
use crate::registered::Hook;

/// The patch of a webhook that allows it with one. A webhook that cannot be asked is passed over if it is to fail open.
///
/// # Errors
/// The webhook's refusal; 500 if it failed.
pub(super) async fn ask(
    change: &Change<'_>,
    hook: &Hook,
    (forms, form): (&Forms, &Form),
    objects: Objects<'_>,
    phase: Phase,
) -> Result<Option<Value>, Status> {
    let uid = uuid::Uuid::new_v4().to_string();
    let out = |object: Option<&Value>| object.map(|object| form.out(object)).unwrap_or_default();
    let question = Question {
        uid: &uid,
        about: form.named(),
        requested: forms.requested.named(),
        subresource: &change.target.subresource,
        name: &change.target.name,
        namespace: namespace(change),
        operation: change.operation,
        user: &change.caller.user_info(),
        object: &out(objects.new),
        old_object: &out(objects.old),
        dry_run: change.caller.dry_run,
        options: &change.caller.options,
    };
    let name = &hook.webhook.name;
    let answer = match post(change, hook, question.to_json().to_string()).await {
        Err(error) => Err(format!("failed to call webhook: {}", daemon::errors::describe(&error))),
        Ok(review) => Answer::read(&review, &uid, phase)
            .map_err(|error| format!("received invalid webhook response: {error}")),
    };
    match answer {
        Ok(answer) => {
            answer.warnings.into_iter().for_each(|text| change.caller.warnings.add(text));
            match answer.verdict {
                Verdict::Allowed => Ok(None),
                Verdict::Patched(patch) => Ok(Some(patch)),
                Verdict::Denied(status) => Err(denied_by(name, status)),
            }
        }
        Err(why) if hook.webhook.fails_open => {
            tracing::warn!(name, error = why, "a webhook failed and is passed over");
            Ok(None)
        }
        Err(why) => {
            tracing::warn!(name, error = why, "a webhook failed, so what it would be asked about is refused");
            Err(Status::internal(format!("failed calling webhook {name:?}: {why}")))
        }
    }
}

/// That of the request; a Namespace counts as in itself.
pub(super) fn namespace<'a>(change: &Change<'a>) -> &'a str {
    match change.target.served.is_core("namespaces") {
        true => &change.target.name,
        false => &change.target.namespace,
    }
}

async fn post(change: &Change<'_>, hook: &Hook, question: String) -> Result<Value, AskError> {
    let left = change.caller.deadline.saturating_duration_since(Instant::now());
    let time = hook.webhook.timeout.min(left);
    let asked = async {
        // It is never closed.
        let _turn = hook.turns.acquire().await;
        let place = reach::place(&change.context.storage, &hook.webhook.client).await?;
        let tls = hook.tls.clone().map_err(ReachError::Tls)?;
        exchange(tls, &place, (question, hook.webhook.timeout)).await
    };
    tokio::time::timeout(time, asked).await.unwrap_or(Err(AskError::Timeout(time)))
}
