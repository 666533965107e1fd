//! Who changes an object on its way: MutatingAdmissionPolicies, then mutating webhooks; those that ask for it a second time, if
//! others changed the object since (`apiserver/pkg/admission/reinvocation.go`).

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::Status;
use apimachinery::patch::{self, PatchKind};
use apimachinery::webhooks::Phase;
use serde_json::Value;

use super::forms::{Form, Forms};
use super::mutations::Completion;
use super::{Change, Objects, ask, by_namespaces};
use crate::registered::Hook;

/// Hooks by their place.
type Places = BTreeSet<usize>;

/// What webhooks made of an object.
struct Asked {
    object: Option<Value>,
    /// Those that were asked and may be asked again.
    willing: Places,
    /// Those of them after which others changed the object.
    overtaken: Places,
}

impl Change<'_> {
    /// Asks the mutating policies and webhooks. The result is the object with its kind, in the version of the request, if they
    /// changed it. `complete` fills in the defaults of an object that policies changed.
    ///
    /// # Errors
    /// A refusal, or a policy or a webhook that failed, in kube-apiserver's words.
    pub(crate) async fn mutate(
        &self,
        objects: Objects<'_>,
        complete: Completion,
    ) -> Result<Option<Value>, Status> {
        let (hooks, policies) = (self.hooks(Phase::Mutating), self.mutating_policies(objects));
        if hooks.is_none() && policies.is_none() {
            return Ok(None);
        }
        let forms = self.forms();
        let mut object = objects.new.cloned();
        let mut repeated = BTreeSet::new();
        if let Some(policies) = &policies {
            let made = self.make((policies, None), &forms, objects, complete).await?;
            (object, repeated) = (Some(made.object), made.willing);
        }
        let mut asked = Asked { object, willing: Places::new(), overtaken: Places::new() };
        if let Some(hooks) = &hooks {
            asked = self.ask_all(hooks, &forms, (objects, asked.object), None).await?;
        }
        if asked.object.as_ref() == objects.new {
            return Ok(None);
        }
        let mut again = asked.overtaken;
        let mut object = asked.object;
        if let Some(policies) = policies.filter(|_| !repeated.is_empty()) {
            let now = Objects { new: object.as_ref(), ..objects };
            let made = self.make((&policies, Some(&repeated)), &forms, now, complete).await?.object;
            if object.as_ref() != Some(&made) {
                again.extend(asked.willing);
            }
            object = Some(made);
        }
        if let Some(hooks) = hooks.filter(|_| !again.is_empty()) {
            object = self.ask_all(&hooks, &forms, (objects, object), Some(&again)).await?.object;
        }
        Ok(object.map(|object| forms.requested.out(&object)))
    }

    /// Asks webhooks one after the other; `only`: these.
    async fn ask_all(
        &self,
        hooks: &[Arc<Hook>],
        forms: &Forms,
        (objects, mut object): (Objects<'_>, Option<Value>),
        only: Option<&Places>,
    ) -> Result<Asked, Status> {
        let namespace =
            self.namespace(by_namespaces(hooks), Objects { new: object.as_ref(), ..objects }).await?;
        let (mut willing, mut overtaken) = (Places::new(), Places::new());
        let chosen = hooks.iter().enumerate().filter(|(at, _)| only.is_none_or(|only| only.contains(at)));
        for (at, hook) in chosen {
            let now = Objects { new: object.as_ref(), ..objects };
            let Some(form) = self.form(forms, &hook.webhook.matching, now, &namespace) else { continue };
            if !self.fulfils(hook, (forms, form), now).await? {
                continue;
            }
            if let Some(changed) = self.changed(hook, (forms, form), now).await? {
                object = Some(changed);
                overtaken.extend(willing.iter().copied());
            }
            if hook.webhook.again {
                willing.insert(at);
            }
        }
        Ok(Asked { object, willing, overtaken })
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
}
