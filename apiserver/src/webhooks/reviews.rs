//! Policies (ValidatingAdmissionPolicy) and `matchConditions` on a change.

use std::sync::Arc;

use apimachinery::kinds::split_api_version;
use apimachinery::webhooks::Question;
use apimachinery::{Cause, Status, object};
use celrules::{Binding, Decision, Kind, Outcome, Request};
use kubeapi::registry::Served;
use kubeapi::render::{Include, Renderer};
use kubeapi::respond::Form as Shape;
use kubeapi::stored::{Key, ListQuery};
use serde_json::{Value, json};

use super::forms::{Form, Forms};
use super::{Change, Objects, ask};
use crate::policies::{Active, Bound, Followed};
use crate::registered::Hook;
use crate::rules;

/// The key in the audit log.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Objects that a selector finds as parameters at most.
const PARAMS: usize = 100;

/// What is asked of one policy.
struct Task {
    policy: Arc<Followed>,
    request: Arc<Request>,
    bindings: Vec<(Arc<Bound>, Binding)>,
}

impl Change<'_> {
    /// Reviews a change by all policies that match it.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) async fn review(&self, objects: Objects<'_>) -> Result<(), Status> {
        let active = self.context.policies.active(Kind::Validating);
        if active.is_empty() || rules::is_of_policies(&self.target.served) {
            return Ok(());
        }
        let forms = self.forms();
        let namespace = self.namespace(true, objects).await?;
        let (mut tasks, mut refused) = (Vec::new(), Vec::new());
        for Active { policy, bindings } in &*active {
            let Some(form) = self.form(&forms, &policy.matching, objects, &namespace) else { continue };
            let mut bound = Vec::new();
            for binding in bindings {
                let fits = |matching| self.is_bound(&forms, matching, objects, &namespace);
                if !binding.matching.as_ref().is_none_or(fits) {
                    continue;
                }
                match self.params(policy, binding).await? {
                    Ok(params) if params.is_empty() => {}
                    Ok(params) => {
                        bound.push((binding.clone(), Binding { name: binding.name.clone(), params }));
                    }
                    Err(_) if policy.fails_open => {}
                    Err(message) => refused.push((binding.clone(), misconfigured(policy, binding, message))),
                }
            }
            if !bound.is_empty() {
                let request = Arc::new(self.request((&forms, form), objects, namespace.clone()));
                tasks.push(Task { policy: policy.clone(), request, bindings: bound });
            }
        }
        let found = self.found(tasks).await?;
        for (binding, outcome) in &found {
            refused.extend(outcome.decisions.iter().map(|decision| (binding.clone(), decision.clone())));
            for (key, value) in &outcome.annotations {
                self.caller.warnings.annotate(key, value.clone());
            }
        }
        self.tell(&refused)
    }

    async fn found(&self, tasks: Vec<Task>) -> Result<Vec<(Arc<Bound>, Outcome)>, Status> {
        if tasks.is_empty() {
            return Ok(vec![]);
        }
        let review = move |budget: &_| {
            let mut found = Vec::new();
            for task in tasks {
                for (bound, binding) in &task.bindings {
                    let outcome = celrules::review(task.policy.compiled(), binding, &task.request, budget);
                    found.push((bound.clone(), outcome));
                }
            }
            found
        };
        self.context.rules.runner.evaluate(review).await.map_err(rules::late)
    }

    /// Does what bindings say about decisions.
    fn tell(&self, decisions: &[(Arc<Bound>, Decision)]) -> Result<(), Status> {
        let mut denied = None;
        let mut audited = Vec::new();
        for (binding, decision) in decisions {
            let Decision { policy, binding: name, expression, message, .. } = decision;
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => denied = denied.or(Some(decision)),
                    "Warn" => self.caller.warnings.add(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{name}': {message}"
                    )),
                    "Audit" => audited.push(json!({
                        "message": message, "policy": policy, "binding": name, "expressionIndex": expression,
                        "validationActions": binding.actions,
                    })),
                    _ => {}
                }
            }
        }
        if !audited.is_empty() {
            self.caller.warnings.annotate(FAILURE, json!(audited).to_string());
        }
        denied.map_or(Ok(()), |decision| Err(self.denied(decision)))
    }

    fn denied(&self, decision: &Decision) -> Status {
        let Decision { policy, binding, message, reason, .. } = decision;
        let why = format!(
            "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}"
        );
        let resource = &self.target.served.resource;
        let mut status = Status::refused(&resource.group, &resource.plural, &self.target.name, &why);
        (status.code, status.reason) = match reason.as_str() {
            "Forbidden" => (403, "Forbidden".into()),
            "Unauthorized" => (401, "Unauthorized".into()),
            "RequestEntityTooLarge" => (413, "RequestEntityTooLarge".into()),
            _ => (422, "Invalid".into()),
        };
        status.causes.push(Cause { message: why, ..Cause::default() });
        status
    }

    /// What expressions see of the change.
    pub(super) fn request(
        &self,
        (forms, form): (&Forms, &Form),
        objects: Objects<'_>,
        namespace: Value,
    ) -> Request {
        let out = |object: Option<&Value>| object.map(|object| form.out(object)).unwrap_or_default();
        let question = Question {
            uid: "",
            about: form.named(),
            requested: forms.requested.named(),
            subresource: &self.target.subresource,
            name: &self.target.name,
            namespace: ask::namespace(self),
            operation: self.operation,
            user: &self.caller.user_info(),
            object: &Value::Null,
            old_object: &Value::Null,
            dry_run: self.caller.dry_run,
            options: &self.caller.options,
        };
        let mut request = question.to_json()["request"].take();
        let fields = object::as_map(&mut request);
        ["uid", "object", "oldObject"].into_iter().for_each(|field| drop(fields.remove(field)));
        for field in ["subResource", "requestSubResource", "name", "namespace"] {
            fields.entry(field).or_insert_with(|| json!(""));
        }
        // As kube-apiserver has it: a Namespace is in none.
        let namespace = if self.target.served.resource.namespaced { namespace } else { Value::Null };
        Request { object: out(objects.new), old_object: out(objects.old), request, namespace }
    }

    /// True if a request fulfils the conditions of a webhook.
    ///
    /// # Errors
    /// 500 if a condition cannot be evaluated and the webhook is to fail closed.
    pub(super) async fn fulfils(
        &self,
        hook: &Arc<Hook>,
        form: (&Forms, &Form),
        objects: Objects<'_>,
    ) -> Result<bool, Status> {
        if hook.webhook.conditions.is_empty() {
            return Ok(true);
        }
        let request = self.request(form, objects, Value::Null);
        let asked = hook.clone();
        let evaluate = move |budget: &_| celrules::matches(asked.conditions(), &request, budget);
        match self.context.rules.runner.evaluate(evaluate).await.map_err(rules::late)? {
            Ok(fulfils) => Ok(fulfils),
            Err(error) if hook.webhook.fails_open => {
                tracing::warn!(name = hook.webhook.name, error, "a webhook is passed over");
                Ok(false)
            }
            Err(error) => {
                Err(Status::internal(format!("failed calling webhook {:?}: {error}", hook.webhook.name)))
            }
        }
    }

    /// The parameters of a policy, one null if it takes none; none if the binding does without; or what is wrong with them.
    pub(super) async fn params(
        &self,
        policy: &Followed,
        binding: &Bound,
    ) -> Result<Result<Vec<Value>, String>, Status> {
        let none = vec![Value::Null];
        let Some((api_version, kind)) = &policy.param_kind else { return Ok(Ok(none)) };
        let Some(params) = &binding.params else { return Ok(Ok(none)) };
        let (group, version) = split_api_version(api_version);
        let served = self.context.registry.resources().into_iter().find_map(|resource| {
            let version = resource.versions.iter().position(|served| served.name == version)?;
            (resource.group == group && resource.kind == *kind).then_some(Served { resource, version })
        });
        let Some(served) = served else {
            let why = "failed to configure policy: failed to find resource referenced by paramKind";
            return Ok(Err(format!("{why}: '{api_version}, Kind={kind}'")));
        };
        let own = &self.target.namespace;
        let namespace = match (served.resource.namespaced, params.namespace.is_empty()) {
            (false, true) => "",
            (false, false) => {
                return Ok(misused(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
                ));
            }
            (true, false) => params.namespace.as_str(),
            (true, true) if own.is_empty() => {
                let why =
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Ok(misused(why));
            }
            (true, true) => own.as_str(),
        };
        let storage = &self.context.storage;
        let resource = served.resource.key();
        let stored = match &params.selector {
            None => storage.get(&Key::new(&resource, namespace, &params.name)).await?.into_iter().collect(),
            Some(_) => {
                let namespace = Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty());
                let query = ListQuery { resource, namespace, ..ListQuery::default() };
                storage.list(query).await?.items
            }
        };
        let renderer = Renderer::new(&served, Shape::Object, Include::None);
        let mut found = Vec::new();
        for stored in stored {
            let value = stored.value()?;
            let fits = params.selector.as_ref().is_none_or(|selector| selector.matches_object(&value));
            if fits && found.len() < PARAMS {
                found.push(renderer.typed(value));
            }
        }
        if found.is_empty() && !params.may_lack {
            return Ok(misused("no params found for policy binding with `Deny` parameterNotFoundAction"));
        }
        Ok(Ok(found))
    }
}

fn misused(why: &str) -> Result<Vec<Value>, String> {
    Err(format!("failed to configure binding: {why}"))
}

fn misconfigured(policy: &Followed, binding: &Bound, message: String) -> Decision {
    Decision {
        policy: policy.name.clone(),
        binding: binding.name.clone(),
        expression: 0,
        message,
        reason: String::new(),
    }
}
