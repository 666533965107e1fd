//! Rules in CEL: those of definitions, compiled when they are first needed and kept until the definition changes; and what is
//! wrong with expressions of configurations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use apimachinery::object::list;
use apimachinery::webhooks::Phase;
use apimachinery::{Cause, Status, schema};
use celrules::{Kind, Late, Runner, Schema, Verdict};
use kubeapi::registry::{Resource, Served};
use serde_json::{Value, json};

/// The rules of a version.
type Compiled = Arc<OnceLock<Schema>>;

struct Entry {
    /// What they were read from.
    resource: Arc<Resource>,
    /// By version; `None`: it has no rules.
    versions: Vec<Option<Compiled>>,
}

/// The rules of custom resources, and the threads that all rules run on.
#[derive(Default)]
pub(crate) struct Rules {
    pub runner: Runner,
    compiled: Mutex<HashMap<String, Entry>>,
}

impl Rules {
    /// Forgets the rules of a definition that changed, by its name.
    pub(crate) fn forget(&self, definition: &str) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).remove(definition);
    }

    fn of(&self, served: &Served) -> Option<Compiled> {
        let key = served.resource.key();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        match compiled.get(&key) {
            Some(entry) if Arc::ptr_eq(&entry.resource, &served.resource) => {}
            _ => {
                let has_rules = |schema: &Option<Value>| schema.as_ref().is_some_and(celrules::has_rules);
                let versions = served.resource.versions.iter();
                let versions = versions.map(|version| has_rules(&version.schema).then(Compiled::default));
                let entry = Entry { resource: served.resource.clone(), versions: versions.collect() };
                compiled.insert(key.clone(), entry);
            }
        }
        compiled.get(&key)?.versions.get(served.version)?.clone()
    }

    /// What the rules of its version say of a custom resource. `wrong` is what its schema says.
    ///
    /// # Errors
    /// 422 for a rule that takes too long, 500 if there was no place for it.
    pub(crate) async fn custom(
        &self,
        served: &Served,
        old: Option<&Value>,
        object: &Value,
        wrong: &[Cause],
    ) -> Result<Verdict, Status> {
        let Some(compiled) = self.of(served) else { return Ok(Verdict::default()) };
        if let Some(cause) = celrules::unchecked(wrong) {
            return Ok(Verdict { causes: vec![cause], kept: vec![] });
        }
        if compiled.get().is_none() {
            let (compiled, served) = (compiled.clone(), served.clone());
            let compile = move |_: &_| {
                let schema = served.version().schema.as_ref().unwrap_or(&Value::Null);
                compiled.get_or_init(|| Schema::compile(schema));
            };
            self.runner.compile(compile).await.map_err(late)?;
        }
        let (mut old, object) = (old.map(|old| typed(served, old)), typed(served, object));
        let served = served.clone();
        let resource = served.resource.clone();
        let name = apimachinery::object::name(&object).to_owned();
        let check = move |budget: &_| {
            let schema = served.version().schema.as_ref().unwrap_or(&Value::Null);
            // What was stored before a default was known has it now.
            if let Some(old) = &mut old {
                schema::defaults(old, schema);
            }
            let rules = compiled.get();
            rules
                .map(|rules| celrules::check(rules, schema, &object, old.as_ref(), budget))
                .unwrap_or_default()
        };
        self.runner.evaluate(check).await.map_err(|why| match &why {
            Late::Slow(rule) => {
                let told = format!(
                    "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
                );
                let cause = Cause::invalid("<nil>", &Value::Null, &told);
                Status::invalid(&resource.group, &resource.kind, &name, vec![cause])
            }
            _ => late(why),
        })
    }

    /// What is wrong with the expressions of a definition, a policy or a configuration of webhooks, if it is one. `old`: what it
    /// was.
    ///
    /// # Errors
    /// 500 if there are so many that they cannot be compiled in time.
    pub(crate) async fn problems(
        &self,
        served: &Served,
        old: Option<&Value>,
        value: &Value,
    ) -> Result<Vec<Cause>, Status> {
        let (value, old) = (value.clone(), old.cloned());
        if served.is_definition() {
            if !celrules::has_rules(&value["spec"]) {
                return Ok(vec![]);
            }
            let problems = move |budget: &Arc<_>| celrules::definition_problems(&value, old.as_ref(), budget);
            return self.runner.compile(problems).await.map_err(late);
        }
        let resource = &served.resource;
        if let Some(kind) = policy(served) {
            if old.is_some_and(|old| old["spec"] == value["spec"]) {
                return Ok(vec![]);
            }
            let problems = move |budget: &_| celrules::policy_problems(kind, &value, budget);
            return self.runner.compile(problems).await.map_err(late);
        }
        let has_conditions =
            || list(&value, "/webhooks").iter().any(|hook| !list(hook, "/matchConditions").is_empty());
        if Phase::of_resource(&resource.group, &resource.plural).is_none() || !has_conditions() {
            return Ok(vec![]);
        }
        let problems = move |_: &_| {
            let hooks = list(&value, "/webhooks").iter().enumerate();
            let of = hooks.map(|(at, hook)| {
                let path = format!("webhooks[{at}].matchConditions");
                celrules::condition_problems(list(hook, "/matchConditions"), &path)
            });
            of.flatten().collect()
        };
        self.runner.compile(problems).await.map_err(late)
    }
}

/// A stored object with its type, in the version of the request.
pub(crate) fn typed(served: &Served, value: &Value) -> Value {
    let mut typed = value.clone();
    typed["apiVersion"] = json!(served.api_version());
    typed["kind"] = json!(served.resource.kind);
    typed
}

/// Of which kind policies of this resource are; `None`: they are none.
pub(crate) fn policy(served: &Served) -> Option<Kind> {
    of_plural(served, ["validatingadmissionpolicies", "mutatingadmissionpolicies"])
}

/// Of which kind the policies are that these bind; `None`: they are no bindings.
pub(crate) fn binding(served: &Served) -> Option<Kind> {
    of_plural(served, ["validatingadmissionpolicybindings", "mutatingadmissionpolicybindings"])
}

/// True for both: no policy is asked about them, and no webhook.
pub(crate) fn is_of_policies(served: &Served) -> bool {
    policy(served).or_else(|| binding(served)).is_some()
}

fn of_plural(served: &Served, [validating, mutating]: [&str; 2]) -> Option<Kind> {
    let resource = &served.resource;
    match resource.plural.as_str() {
        _ if resource.group != "admissionregistration.k8s.io" => None,
        plural if plural == validating => Some(Kind::Validating),
        plural if plural == mutating => Some(Kind::Mutating),
        _ => None,
    }
}

/// What a client is told: the change is not made.
pub(crate) fn late(late: Late) -> Status {
    tracing::warn!(error = %late, "rules in CEL had no result, so the change is refused");
    Status::internal(late.to_string())
}
