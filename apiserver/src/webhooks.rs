//! Admission webhooks are asked before a change is stored, as kube-apiserver asks them
//! (`apiserver/pkg/admission/plugin/webhook`).
//!
//! ```text
//! verb --object completed--> mutating, one after the other --> completed and checked again --> validating, all at once --> storage
//! ```
//!
//! What the server changes itself, such as the contents of a namespace that is deleted, is not asked about, nor are
//! configurations of webhooks: nobody could mend one that refuses everything.

mod ask;
mod forms;
mod reach;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::patch::{self, PatchKind};
use apimachinery::webhooks::{Asked, Operation, Phase};
use kubeapi::stored::Key;
use kubeapi::target::Target;
use kubeapi::user::User;
use kubeapi::warnings::Warnings;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::Context;
use crate::registered::Hook;
use forms::{Form, Forms};

/// Time for all webhooks of a request (`requestTimeoutUpperBound` of kube-apiserver).
const REQUEST: Duration = Duration::from_secs(34);

/// Who makes a request, and what webhooks are told of it.
pub(crate) struct Caller<'a> {
    user: &'a User,
    warnings: &'a Warnings,
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions or DeleteOptions; null when a node is connected to.
    pub options: Value,
    deadline: Instant,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(user: &'a User, warnings: &'a Warnings, dry_run: bool, options: Value) -> Caller<'a> {
        Caller { user, warnings, dry_run, options, deadline: Instant::now() + REQUEST }
    }

    pub(crate) fn user(&self) -> &'a User {
        self.user
    }

    fn user_info(&self) -> Value {
        json!({
            "username": self.user.name, "uid": self.user.uid, "groups": self.user.groups, "extra": self.user.extra,
        })
    }
}

/// An object before and after. Objects of the resource itself are as they are stored, what is posted to a subresource is as it
/// was sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Objects<'a> {
    pub old: Option<&'a Value>,
    pub new: Option<&'a Value>,
}

/// Something that webhooks are asked about.
pub(crate) struct Change<'a> {
    context: &'a Context,
    caller: &'a Caller<'a>,
    target: &'a Target,
    operation: Operation,
    /// What is posted to a subresource, of a kind of its own.
    posted: Option<&'a Value>,
}

impl<'a> Change<'a> {
    /// Of an object of the resource, or its status.
    pub(crate) fn of(
        context: &'a Context,
        caller: &'a Caller<'a>,
        target: &'a Target,
        operation: Operation,
    ) -> Change<'a> {
        Change { context, caller, target, operation, posted: None }
    }

    /// Of a subresource that takes objects of a kind of its own, as `posted` is.
    pub(crate) fn posted(
        context: &'a Context,
        caller: &'a Caller<'a>,
        target: &'a Target,
        operation: Operation,
        posted: &'a Value,
    ) -> Change<'a> {
        Change { context, caller, target, operation, posted: Some(posted) }
    }

    /// Those that may be asked, if there are any.
    fn hooks(&self, phase: Phase) -> Option<Arc<[Arc<Hook>]>> {
        let hooks = Some(self.context.webhooks.all(phase)).filter(|hooks| !hooks.is_empty())?;
        let resource = &self.target.served.resource;
        Phase::of_resource(&resource.group, &resource.plural).is_none().then_some(hooks)
    }

    fn forms(&self) -> Forms {
        match self.posted {
            Some(posted) => Forms::posted(self.target, posted),
            None => Forms::of(&self.context.registry, self.target),
        }
    }

    /// Asks the mutating webhooks. The result is the object with its kind, in the version of the request, if they changed it.
    ///
    /// # Errors
    /// A refusal, or a webhook that failed, in kube-apiserver's words.
    pub(crate) async fn mutate(&self, objects: Objects<'_>) -> Result<Option<Value>, Status> {
        let Some(hooks) = self.hooks(Phase::Mutating) else { return Ok(None) };
        let forms = self.forms();
        let namespace = self.namespace(&hooks, objects).await?;
        let mut current = objects.new.cloned();
        let (mut asked, mut again, mut is_changed) = (Vec::new(), BTreeSet::new(), false);
        for (at, hook) in hooks.iter().enumerate() {
            let now = Objects { new: current.as_ref(), ..objects };
            let Some(form) = self.form(&forms, hook, now, &namespace) else { continue };
            if let Some(changed) = self.changed(hook, (&forms, form), now).await? {
                current = Some(changed);
                is_changed = true;
                again.extend(asked.iter().copied());
            }
            if hook.webhook.again {
                asked.push(at);
            }
        }
        for hook in again.into_iter().filter_map(|at: usize| hooks.get(at)) {
            let now = Objects { new: current.as_ref(), ..objects };
            let Some(form) = self.form(&forms, hook, now, &namespace) else { continue };
            if let Some(changed) = self.changed(hook, (&forms, form), now).await? {
                current = Some(changed);
            }
        }
        Ok(current.filter(|_| is_changed).map(|object| forms.requested.out(&object)))
    }

    /// Asks the validating webhooks.
    ///
    /// # Errors
    /// The first refusal or failure, in the order of the webhooks.
    pub(crate) async fn validate(&self, objects: Objects<'_>) -> Result<(), Status> {
        let Some(hooks) = self.hooks(Phase::Validating) else { return Ok(()) };
        let forms = self.forms();
        let namespace = self.namespace(&hooks, objects).await?;
        let asked = hooks.iter().filter_map(|hook| {
            let form = self.form(&forms, hook, objects, &namespace)?;
            Some(ask::ask(self, hook, (&forms, form), objects, Phase::Validating))
        });
        for answer in futures_util::future::join_all(asked).await {
            answer?;
        }
        Ok(())
    }

    /// What a webhook made of the object, if that is another.
    async fn changed(
        &self,
        hook: &Hook,
        (forms, form): (&Forms, &Form),
        objects: Objects<'_>,
    ) -> Result<Option<Value>, Status> {
        let Some(patch) = ask::ask(self, hook, (forms, form), objects, Phase::Mutating).await? else {
            return Ok(None);
        };
        if patch.as_array().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let name = &hook.webhook.name;
        let Some(new) = objects.new else {
            let why = "attempted to modify the object, which is not supported for this operation";
            return Err(Status::internal(format!("admission webhook {name:?} {why}")));
        };
        let patched = patch::apply(PatchKind::Json, &form.out(new), &patch, None);
        let patched = patched.and_then(|patched| form.back(patched)).map_err(|status| {
            Status::internal(format!("applying the patch of admission webhook {name:?}: {}", status.message))
        })?;
        Ok(Some(patched).filter(|patched| patched != new))
    }

    /// In which form a webhook wants to hear of it; `None`: it does not.
    fn form<'f>(
        &self,
        forms: &'f Forms,
        hook: &Hook,
        objects: Objects<'_>,
        namespace: &Value,
    ) -> Option<&'f Form> {
        let webhook = &hook.webhook;
        let namespaced = self.target.served.resource.namespaced;
        let matches = |form: &&Form| {
            let (group, version, resource) = form.named().resource;
            webhook.matches(&Asked {
                operation: self.operation,
                group,
                version,
                resource,
                subresource: &self.target.subresource,
                namespaced,
            })
        };
        let equivalent = || forms.equivalents.iter().filter(|_| webhook.equivalent).find(matches);
        let form = Some(&forms.requested).filter(matches).or_else(equivalent)?;
        let is_in_one = namespaced || self.target.served.is_core("namespaces");
        if is_in_one && !webhook.namespaces.matches_object(namespace) {
            return None;
        }
        let selector = &webhook.objects;
        let is_selected = |object: &Value| object["metadata"].is_object() && selector.matches_object(object);
        let selected = [objects.new, objects.old].into_iter().flatten().any(is_selected);
        (selector.is_everything() || selected).then_some(form)
    }

    /// The namespace that selectors look at: of a Namespace itself as it will be.
    async fn namespace(&self, hooks: &[Arc<Hook>], objects: Objects<'_>) -> Result<Value, Status> {
        if hooks.iter().all(|hook| hook.webhook.namespaces.is_everything()) {
            return Ok(Value::Null);
        }
        if self.target.served.is_core("namespaces") && self.target.subresource.is_empty() {
            return Ok(objects.new.or(objects.old).cloned().unwrap_or_default());
        }
        let name = match self.target.served.is_core("namespaces") {
            true => &self.target.name,
            false => &self.target.namespace,
        };
        match self.context.storage.get(&Key::new("namespaces", "", name)).await? {
            Some(stored) => stored.value(),
            None => Ok(Value::Null),
        }
    }
}
