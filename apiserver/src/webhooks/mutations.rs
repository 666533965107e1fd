//! MutatingAdmissionPolicies on a change (`apiserver/pkg/admission/plugin/policy/mutating`).

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::patch;
use apimachinery::webhooks::Operation;
use apimachinery::{Cause, Status, decode, fields, object, schema};
use celrules::{Kind, Request};
use kubeapi::registry::Served;
use serde_json::Value;

use super::forms::{Form, Forms};
use super::{Change, Objects};
use crate::policies::{Active, Followed};
use crate::rules;

/// Fills in the defaults of an object, as it is stored.
pub(crate) type Completion = fn(&Served, &mut Value);

/// A policy, where it is bound, and namespace and name of its parameters.
pub(super) type Invocation = (String, String, [String; 2]);

/// What policies made of an object.
pub(super) struct Made {
    /// As it is stored.
    pub object: Value,
    /// Those that were asked and may be asked again.
    pub willing: BTreeSet<Invocation>,
}

/// One policy, with one of its parameters.
struct Task {
    invocation: Invocation,
    policy: Arc<Followed>,
    params: Value,
    form: Form,
    /// With the object as it is before the first of them.
    request: Request,
}

/// Why a policy could not be asked or did not do what it should.
struct Failure {
    policy: String,
    binding: String,
    why: String,
    /// Of a Status.
    reason: &'static str,
}

impl Change<'_> {
    /// Those that may be asked, if there are any. What is deleted is not changed.
    pub(super) fn mutating_policies(&self, objects: Objects<'_>) -> Option<Arc<[Active]>> {
        let is_asked = objects.new.is_some()
            && self.operation != Operation::Delete
            && !rules::is_of_policies(&self.target.served);
        is_asked.then(|| self.context.policies.active(Kind::Mutating)).filter(|active| !active.is_empty())
    }

    /// Asks policies one after the other; `only`: these. Which of them match is a matter of the object as it comes.
    ///
    /// # Errors
    /// 403 where a policy that fails closed could not be asked, 500 where all together took too long.
    pub(super) async fn make(
        &self,
        (policies, only): (&[Active], Option<&BTreeSet<Invocation>>),
        forms: &Forms,
        objects: Objects<'_>,
        complete: Completion,
    ) -> Result<Made, Status> {
        let (mut tasks, mut failures) = self.tasks(policies, forms, objects).await?;
        tasks.retain(|task| only.is_none_or(|only| only.contains(&task.invocation)));
        let mut made = Made { object: objects.new.cloned().unwrap_or_default(), willing: BTreeSet::new() };
        if !tasks.is_empty() {
            let served = self.target.served.clone();
            let mutate = move |budget: &Arc<celrules::Budget>| {
                let mut failures = Vec::new();
                for task in tasks {
                    let mut request = task.request;
                    request.object = task.form.out(&made.object);
                    let mut apply =
                        |object: &Value, change| applied((&served, complete), &task.form, object, change);
                    let done =
                        celrules::mutate(task.policy.compiled(), &task.params, &request, &mut apply, budget);
                    if done.applies && task.policy.again {
                        made.willing.insert(task.invocation.clone());
                    }
                    let mut errors = done.errors;
                    match task.form.back(done.object) {
                        Ok(object) => made.object = object,
                        Err(status) => errors.push(status.message),
                    }
                    let (policy, binding, _) = task.invocation;
                    failures.extend(errors.into_iter().filter(|_| !task.policy.fails_open).map(|why| {
                        Failure { policy: policy.clone(), binding: binding.clone(), why, reason: "Invalid" }
                    }));
                }
                (made, failures)
            };
            let (done, more) = self.context.rules.runner.evaluate(mutate).await.map_err(rules::late)?;
            made = done;
            failures.extend(more);
        }
        match failures.is_empty() {
            true => Ok(made),
            false => Err(self.failed(&failures)),
        }
    }

    /// What matches.
    async fn tasks(
        &self,
        policies: &[Active],
        forms: &Forms,
        objects: Objects<'_>,
    ) -> Result<(Vec<Task>, Vec<Failure>), Status> {
        let namespace = self.namespace(true, objects).await?;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for Active { policy, bindings } in policies {
            let Some(form) = self.form(forms, &policy.matching, objects, &namespace) else { continue };
            for binding in bindings {
                let fits = |matching| self.is_bound(forms, matching, objects, &namespace);
                if !binding.matching.as_ref().is_none_or(fits) {
                    continue;
                }
                let found = match self.params(policy, binding).await? {
                    Ok(found) => found,
                    Err(_) if policy.fails_open => continue,
                    Err(why) => {
                        let (policy, binding) = (policy.name.clone(), binding.name.clone());
                        failures.push(Failure { policy, binding, why, reason: "Forbidden" });
                        continue;
                    }
                };
                tasks.extend(found.into_iter().map(|params| {
                    let named = [object::namespace(&params), object::name(&params)].map(str::to_owned);
                    Task {
                        invocation: (policy.name.clone(), binding.name.clone(), named),
                        policy: policy.clone(),
                        params,
                        form: form.clone(),
                        request: self.request((forms, form), objects, namespace.clone()),
                    }
                }));
            }
        }
        Ok((tasks, failures))
    }

    fn failed(&self, failures: &[Failure]) -> Status {
        let resource = &self.target.served.resource;
        let mut status = Status::refused(&resource.group, &resource.plural, &self.target.name, "");
        let told = |Failure { policy, binding, why, .. }: &Failure| {
            format!("policy '{policy}' with binding '{binding}' denied request: {why}")
        };
        status.causes = failures.iter().map(|one| Cause { message: told(one), ..Cause::default() }).collect();
        if let Some(first) = failures.first() {
            status.message = told(first);
            status.reason = first.reason.into();
        }
        status
    }
}

/// An object of a form with a change, completed.
fn applied(
    (served, complete): (&Served, Completion),
    form: &Form,
    before: &Value,
    change: celrules::Change,
) -> Result<Value, String> {
    let mut value = match change {
        celrules::Change::Apply(wanted) => merged(form, before, wanted)?,
        celrules::Change::Patch(operations) => {
            let patched = patch::apply_tested(before, &operations);
            match patched.map_err(|status| format!("JSON Patch: {}", status.message))? {
                Some(patched) => patched,
                None => return Ok(before.clone()),
            }
        }
    };
    if let Some(of) = form.built_in() {
        let told = decode::built_in(&mut value, of).map_err(|error| error.to_string())?;
        if !told.is_empty() {
            return Err(format!("strict decoding error: {}", told.join(", ")));
        }
    } else if let Some(schema) = form.schema() {
        schema::prune(&mut value, schema);
        schema::defaults(&mut value, schema);
    }
    if !form.is_of_resource() {
        return Ok(value);
    }
    let mut stored = form.back(value).map_err(|status| status.message)?;
    if !served.resource.custom {
        complete(served, &mut stored);
    }
    Ok(form.out(&stored))
}

fn merged(form: &Form, before: &Value, mut wanted: Value) -> Result<Value, String> {
    let of = match form.built_in() {
        Some(of) => fields::Schema::built_in(of),
        None => fields::Schema::custom(form.schema()),
    };
    for field in ["apiVersion", "kind"] {
        wanted[field] = before[field].clone();
    }
    fields::configured(before, &wanted, of).map_err(|why| format!("error applying patch: {why}"))
}
