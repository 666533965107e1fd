//! Policies and admission webhooks are asked before a change is stored, as kube-apiserver asks them
//! (`apiserver/pkg/admission/plugin/{webhook,policy/validating}`).
//!
//! ```text
//! verb --object completed--> mutating policies --> mutating webhooks, one after the other --> both again, as far as they ask for it
//!      --> completed and checked again --> validating policies --> validating webhooks, all at once --> storage
//! ```
//!
//! What the server changes itself, such as the contents of a namespace that is deleted, is not asked about, nor are
//! configurations of webhooks and policies: nobody could mend one that refuses everything.

mod ask;
pub(crate) mod exchange;
mod forms;
mod mutating;
mod mutations;
mod reviews;

use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::webhooks::{Asked, Matching, Operation, Phase};
use kubeapi::stored::Key;
use kubeapi::target::Target;
use kubeapi::user::User;
use kubeapi::warnings::Warnings;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::Context;
use crate::registered::Hook;
use crate::rules;
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
        let is_asked = !rules::is_of_policies(&self.target.served)
            && Phase::of_resource(&resource.group, &resource.plural).is_none();
        is_asked.then_some(hooks)
    }

    fn forms(&self) -> Forms {
        match self.posted {
            Some(posted) => Forms::posted(self.target, posted),
            None => Forms::of(&self.context.registry, self.target),
        }
    }

    /// Reviews the change by policies, then asks the validating webhooks.
    ///
    /// # Errors
    /// The first refusal or failure, in the order of the policies and the webhooks.
    pub(crate) async fn validate(&self, objects: Objects<'_>) -> Result<(), Status> {
        self.review(objects).await?;
        let Some(hooks) = self.hooks(Phase::Validating) else { return Ok(()) };
        let forms = self.forms();
        let namespace = self.namespace(by_namespaces(&hooks), objects).await?;
        let forms = &forms;
        let asked = hooks.iter().filter_map(|hook| {
            let form = (forms, self.form(forms, &hook.webhook.matching, objects, &namespace)?);
            Some(async move {
                match self.fulfils(hook, form, objects).await? {
                    true => ask::ask(self, hook, form, objects, Phase::Validating).await,
                    false => Ok(None),
                }
            })
        });
        for answer in futures_util::future::join_all(asked).await {
            answer?;
        }
        Ok(())
    }

    /// In which form a webhook or a policy wants to hear of it; `None`: it does not.
    fn form<'f>(
        &self,
        forms: &'f Forms,
        matching: &Matching,
        objects: Objects<'_>,
        namespace: &Value,
    ) -> Option<&'f Form> {
        let form = self.formed(forms, matching.equivalent, |asked| matching.matches(asked))?;
        self.is_selected(forms, matching, objects, namespace).then_some(form)
    }

    /// True if a binding is of it; without rules it is of all.
    fn is_bound(&self, forms: &Forms, matching: &Matching, objects: Objects<'_>, namespace: &Value) -> bool {
        let matches = |asked: &Asked<'_>| matching.rules.is_empty() || matching.matches(asked);
        self.formed(forms, matching.equivalent, matches).is_some()
            && self.is_selected(forms, matching, objects, namespace)
    }

    fn formed<'f>(
        &self,
        forms: &'f Forms,
        equivalent: bool,
        matches: impl Fn(&Asked<'_>) -> bool,
    ) -> Option<&'f Form> {
        let matches = |form: &&Form| {
            let (group, version, resource) = form.named().resource;
            matches(&Asked {
                operation: self.operation,
                group,
                version,
                resource,
                subresource: &self.target.subresource,
                name: &self.target.name,
                namespaced: self.target.served.resource.namespaced,
            })
        };
        let equivalent = || forms.equivalents.iter().filter(|_| equivalent).find(matches);
        Some(&forms.requested).filter(matches).or_else(equivalent)
    }

    /// True if nothing but rules keeps it out.
    fn is_selected(
        &self,
        forms: &Forms,
        matching: &Matching,
        objects: Objects<'_>,
        namespace: &Value,
    ) -> bool {
        if self.formed(forms, matching.equivalent, |asked| matching.excludes(asked)).is_some() {
            return false;
        }
        let is_in_one = self.target.served.resource.namespaced || self.target.served.is_core("namespaces");
        if is_in_one && !matching.namespaces.matches_object(namespace) {
            return false;
        }
        let selector = &matching.objects;
        let is_selected = |object: &Value| object["metadata"].is_object() && selector.matches_object(object);
        let selected = [objects.new, objects.old].into_iter().flatten().any(is_selected);
        selector.is_everything() || selected
    }

    /// The namespace that selectors look at: of a Namespace itself as it will be.
    async fn namespace(&self, is_needed: bool, objects: Objects<'_>) -> Result<Value, Status> {
        if !is_needed {
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

/// True if webhooks select by namespaces.
fn by_namespaces(hooks: &[Arc<Hook>]) -> bool {
    hooks.iter().any(|hook| !hook.webhook.matching.namespaces.is_everything())
}
