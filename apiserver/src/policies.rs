//! The ValidatingAdmissionPolicies and MutatingAdmissionPolicies that are stored and bound, ready to be asked.
//!
//! Kept by storage's commit hook, as webhooks are ([`crate::registered`]). A policy is compiled when a request first matches it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use apimachinery::LabelSelector;
use apimachinery::object::{list, text};
use apimachinery::webhooks::Matching;
use celrules::{Kind, Policy};
use serde_json::Value;

/// A policy.
pub(crate) struct Followed {
    pub name: String,
    pub matching: Matching,
    /// `apiVersion` and kind of its parameters.
    pub param_kind: Option<(String, String)>,
    pub fails_open: bool,
    /// `reinvocationPolicy: IfNeeded`: asked a second time if the object changed.
    pub again: bool,
    source: Value,
    compiled: OnceLock<Policy>,
}

impl Followed {
    fn read(name: &str, policy: &Value) -> Option<Followed> {
        let spec = &policy["spec"];
        let param = |field: &str| text(spec, &format!("/paramKind/{field}")).to_owned();
        Some(Followed {
            name: name.to_owned(),
            matching: Matching::of_policy(&spec["matchConstraints"])?,
            param_kind: spec.get("paramKind").map(|_| (param("apiVersion"), param("kind"))),
            fails_open: text(spec, "/failurePolicy") == "Ignore",
            again: text(spec, "/reinvocationPolicy") == "IfNeeded",
            source: policy.clone(),
            compiled: OnceLock::new(),
        })
    }

    /// Call it on a thread for rules.
    pub(crate) fn compiled(&self) -> &Policy {
        self.compiled.get_or_init(|| Policy::compile(&self.source))
    }
}

/// Which objects are parameters.
pub(crate) struct Params {
    pub name: String,
    /// Empty: that of the object.
    pub namespace: String,
    pub selector: Option<LabelSelector>,
    /// `parameterNotFoundAction: Allow`.
    pub may_lack: bool,
}

/// A binding.
pub(crate) struct Bound {
    pub name: String,
    policy: String,
    /// `None`: wherever the policy is.
    pub matching: Option<Matching>,
    pub params: Option<Params>,
    pub actions: Vec<String>,
}

impl Bound {
    fn read(name: &str, binding: &Value) -> Option<Bound> {
        let spec = &binding["spec"];
        let matching = match spec.get("matchResources") {
            None | Some(Value::Null) => None,
            Some(matches) => Some(Matching::of_policy(matches)?),
        };
        let params = match spec.get("paramRef").filter(|reference| !reference.is_null()) {
            None => None,
            Some(reference) => Some(Params {
                name: text(reference, "/name").to_owned(),
                namespace: text(reference, "/namespace").to_owned(),
                selector: match reference.get("selector").filter(|selector| !selector.is_null()) {
                    None => None,
                    Some(selector) => Some(LabelSelector::of_object(selector, "").ok()?),
                },
                may_lack: text(reference, "/parameterNotFoundAction") == "Allow",
            }),
        };
        let actions = list(spec, "/validationActions").iter().filter_map(Value::as_str);
        Some(Bound {
            name: name.to_owned(),
            policy: text(spec, "/policyName").to_owned(),
            matching,
            params,
            actions: actions.map(str::to_owned).collect(),
        })
    }
}

/// A policy, and where it is bound.
pub(crate) struct Active {
    pub policy: Arc<Followed>,
    pub bindings: Vec<Arc<Bound>>,
}

#[derive(Default)]
struct State {
    policies: BTreeMap<String, Arc<Followed>>,
    bindings: BTreeMap<String, Arc<Bound>>,
    /// Those that are bound.
    active: Arc<[Active]>,
}

#[derive(Default)]
pub(crate) struct Policies {
    validating: RwLock<State>,
    mutating: RwLock<State>,
}

/// What is followed, by its keys in storage: of which kind it is, and whether it is a policy or binds one.
const RESOURCES: [(&str, Kind, bool); 4] = [
    ("validatingadmissionpolicies.admissionregistration.k8s.io", Kind::Validating, true),
    ("validatingadmissionpolicybindings.admissionregistration.k8s.io", Kind::Validating, false),
    ("mutatingadmissionpolicies.admissionregistration.k8s.io", Kind::Mutating, true),
    ("mutatingadmissionpolicybindings.admissionregistration.k8s.io", Kind::Mutating, false),
];

/// The keys in storage of what is followed.
pub(crate) fn followed() -> impl Iterator<Item = &'static str> {
    RESOURCES.iter().map(|(key, ..)| *key)
}

impl Policies {
    fn state(&self, kind: Kind) -> &RwLock<State> {
        match kind {
            Kind::Validating => &self.validating,
            Kind::Mutating => &self.mutating,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        [Kind::Validating, Kind::Mutating].into_iter().all(|kind| self.active(kind).is_empty())
    }

    /// All of a kind that are bound, by name.
    pub(crate) fn active(&self, kind: Kind) -> Arc<[Active]> {
        self.state(kind).read().unwrap_or_else(PoisonError::into_inner).active.clone()
    }

    /// Takes note of an object as it is now; `None`: there is none of this name any more.
    pub(crate) fn set(&self, resource: &str, name: &str, object: Option<&Value>) {
        let Some((_, kind, is_policy)) = RESOURCES.iter().find(|(key, ..)| *key == resource) else { return };
        let mut state = self.state(*kind).write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if *is_policy {
            keep(&mut state.policies, name, object.and_then(|policy| Followed::read(name, policy)));
        } else {
            keep(&mut state.bindings, name, object.and_then(|binding| Bound::read(name, binding)));
        }
        let active = state.policies.values().map(|policy| {
            let bindings = state.bindings.values().filter(|binding| binding.policy == policy.name);
            Active { policy: policy.clone(), bindings: bindings.cloned().collect() }
        });
        state.active = active.filter(|active| !active.bindings.is_empty()).collect();
    }
}

fn keep<T>(all: &mut BTreeMap<String, Arc<T>>, name: &str, read: Option<T>) {
    match read {
        Some(read) => drop(all.insert(name.to_owned(), Arc::new(read))),
        None => drop(all.remove(name)),
    }
}
