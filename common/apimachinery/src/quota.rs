//! ResourceQuotas: what an object counts as, which quotas are about it, and what is too much (`pkg/quota/v1/evaluator/core`,
//! `apiserver/pkg/admission/plugin/resourcequota`).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::amounts::{self, Amount, Amounts};
use crate::object::{self, integer, list, text};

/// Of what an object is: group and plural, as in the table of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of<'a> {
    pub group: &'a str,
    pub plural: &'a str,
}

impl Of<'_> {
    fn count(&self) -> String {
        match self.group {
            "" => format!("count/{}", self.plural),
            group => format!("count/{}.{group}", self.plural),
        }
    }

    fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// True if a quota may limit `resource` by objects of this kind.
    pub fn counts(&self, resource: &str) -> bool {
        if resource == self.count() {
            return true;
        }
        match (self.group, self.plural) {
            ("", "pods") => {
                let bare = resource.strip_prefix("requests.").unwrap_or(resource);
                matches!(bare.strip_prefix("limits.").unwrap_or(bare), "cpu" | "memory" | "ephemeral-storage")
                    || resource == "pods"
                    || bare.starts_with("hugepages-")
                    || (resource.starts_with("requests.") && is_extended(bare))
            }
            ("", "services") => {
                matches!(resource, "services" | "services.nodeports" | "services.loadbalancers")
            }
            ("", "persistentvolumeclaims") => {
                matches!(resource, "persistentvolumeclaims" | "requests.storage")
                    || resource.contains(OF_CLASS)
            }
            ("", "configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers") => {
                resource == self.plural
            }
            _ => false,
        }
    }

    /// What an object counts as. A pod that has ended counts as an object only.
    pub fn usage(&self, object: &Value) -> Amounts {
        let mut all = BTreeMap::from([(self.count(), Amount::of(1))]);
        let mut one = |name: String, amount: Amount| {
            all.insert(name, amount);
        };
        match (self.group, self.plural) {
            ("", "pods") if matches!(text(object, "/status/phase"), "Failed" | "Succeeded") => {}
            ("", "pods") => {
                one("pods".to_owned(), Amount::of(1));
                let of = |field| amounts::of_pod(&object["spec"], field);
                for (name, amount) in compute(&of("requests"), &of("limits")).0 {
                    one(name, amount);
                }
            }
            ("", "services") => {
                one("services".to_owned(), Amount::of(1));
                let ports = list(object, "/spec/ports").len() as i64;
                let on_nodes = match text(object, "/spec/type") {
                    "NodePort" => ports,
                    "LoadBalancer" if object["spec"]["allocateLoadBalancerNodePorts"] == false => {
                        let has_one = |port: &&Value| integer(port, "/nodePort").is_some_and(|port| port > 0);
                        list(object, "/spec/ports").iter().filter(has_one).count() as i64
                    }
                    "LoadBalancer" => ports,
                    _ => 0,
                };
                one("services.nodeports".to_owned(), Amount::of(on_nodes));
                let balanced = i64::from(text(object, "/spec/type") == "LoadBalancer");
                one("services.loadbalancers".to_owned(), Amount::of(balanced));
            }
            ("", "persistentvolumeclaims") => {
                one("persistentvolumeclaims".to_owned(), Amount::of(1));
                let class = text(object, "/spec/storageClassName");
                let storage = Amount::read(&object["spec"]["resources"]["requests"]["storage"]);
                if !class.is_empty() {
                    one(format!("{class}{OF_CLASS}persistentvolumeclaims"), Amount::of(1));
                }
                if let Some(storage) = storage {
                    one("requests.storage".to_owned(), storage);
                    if !class.is_empty() {
                        one(format!("{class}{OF_CLASS}requests.storage"), storage);
                    }
                }
            }
            ("", plural @ ("configmaps" | "secrets" | "resourcequotas" | "replicationcontrollers")) => {
                one(plural.to_owned(), Amount::of(1));
            }
            _ => {}
        }
        Amounts(all)
    }

    /// True if an update of such an object may count for more.
    pub fn grows(&self) -> bool {
        self.is_core("services") || self.is_core("persistentvolumeclaims")
    }

    /// True for a pod that gets a deadline or loses it, which moves it to other quotas (`pkg/quota/v1/evaluator/core/pods.go`,
    /// `Handles`).
    pub fn moves(&self, old: &Value, new: &Value) -> bool {
        self.is_core("pods") && terminates(old) != terminates(new)
    }
}

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

fn is_extended(resource: &str) -> bool {
    let is_of_kubernetes = resource
        .split_once('/')
        .is_none_or(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
    !is_of_kubernetes
}

/// Requests and limits by the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = BTreeMap::new();
    for (name, amount) in &requests.0 {
        let is_plain =
            matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if is_plain {
            all.insert(name.clone(), *amount);
        }
        if is_plain || is_extended(name) {
            all.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in &limits.0 {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            all.insert(format!("limits.{name}"), *amount);
        }
    }
    Amounts(all)
}

/// True if `quota` is about such an object, by its scopes.
pub fn selects(quota: &Value, of: Of<'_>, object: &Value) -> bool {
    let scopes = list(quota, "/spec/scopes").iter().filter_map(Value::as_str);
    let selected = list(quota, "/spec/scopeSelector/matchExpressions");
    let fits = |scope: &str, operator: &str, values: &[Value]| {
        of.is_core("pods") && in_scope(scope, operator, values, object)
    };
    scopes.into_iter().all(|scope| fits(scope, "Exists", &[]))
        && selected
            .iter()
            .all(|one| fits(text(one, "/scopeName"), text(one, "/operator"), list(one, "/values")))
}

fn terminates(pod: &Value) -> bool {
    integer(pod, "/spec/activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0)
}

fn in_scope(scope: &str, operator: &str, values: &[Value], pod: &Value) -> bool {
    let best_effort = || text(pod, "/status/qosClass") == "BestEffort";
    match scope {
        "Terminating" => terminates(pod),
        "NotTerminating" => !terminates(pod),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = text(pod, "/spec/priorityClassName");
            let named = values.iter().any(|value| value == class);
            match operator {
                "In" => named,
                "NotIn" => !named,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses(pod),
        _ => false,
    }
}

/// True if a pod's affinity reaches into other namespaces.
fn crosses(pod: &Value) -> bool {
    let reaches =
        |term: &Value| !list(term, "/namespaces").is_empty() || !term["namespaceSelector"].is_null();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][kind];
        let required = list(affinity, "/requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = list(affinity, "/preferredDuringSchedulingIgnoredDuringExecution").iter();
        required.chain(preferred.map(|one| &one["podAffinityTerm"])).any(reaches)
    })
}

/// What the containers of a pod must say because the quota limits it, and do not.
fn unsaid(limited: &Amounts, pod: &Value) -> Option<String> {
    const NEEDED: [&str; 6] =
        ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    let containers = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    let said: Vec<(&str, Amounts)> = containers
        .map(|one| {
            let of = |field: &str| Amounts::read(&one["resources"][field]);
            (text(one, "/name"), compute(&of("requests"), &of("limits")))
        })
        .collect();
    let lacking = NEEDED.iter().filter(|name| limited.0.contains_key(**name)).filter_map(|name| {
        let mut of: Vec<&str> =
            said.iter().filter(|(_, amounts)| !amounts.0.contains_key(*name)).map(|(of, _)| *of).collect();
        of.sort_unstable();
        (!of.is_empty()).then(|| format!("{name} for: {}", of.join(",")))
    });
    let lacking: Vec<String> = lacking.collect();
    (!lacking.is_empty()).then(|| format!("must specify {}", lacking.join("; ")))
}

/// What `quota` has to be charged with for an object, which replaces `old` if there is one.
///
/// # Errors
/// Why the quota does not allow it.
pub fn charge(
    quota: &Value,
    of: Of<'_>,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<Amounts>, String> {
    let name = object::name(quota);
    let hard = Amounts::read(&quota["status"]["hard"]);
    let limited = hard.only(|resource| of.counts(resource));
    if limited.0.is_empty() || !selects(quota, of, new) {
        return Ok(None);
    }
    if of.is_core("pods")
        && old.is_none()
        && let Some(why) = unsaid(&limited, new)
    {
        return Err(format!("failed quota: {name}: {why}"));
    }
    let used = Amounts::read(&quota["status"]["used"]);
    if limited.0.keys().any(|resource| !used.0.contains_key(resource)) {
        let resources: Vec<&str> = limited.0.keys().map(String::as_str).collect();
        return Err(format!("status unknown for quota: {name}, resources: {}", resources.join(",")));
    }
    let mut asked = of.usage(new);
    if let Some(old) = old.filter(|old| selects(quota, of, old)) {
        let before = of.usage(old);
        for (resource, amount) in &mut asked.0 {
            amount.milli -= before.0.get(resource).map_or(0, |amount| amount.milli);
        }
    }
    asked.0.retain(|resource, amount| amount.milli > 0 && hard.0.contains_key(resource));
    if asked.0.is_empty() {
        return Ok(None);
    }
    let mut after = used.clone();
    after.add(&asked);
    let exceeded = |resource: &str| {
        asked.0.contains_key(resource)
            && after.0.get(resource).map_or(0, |amount| amount.milli)
                > hard.0.get(resource).map_or(0, |most| most.milli)
    };
    let beyond = asked.only(exceeded);
    if beyond.0.is_empty() {
        return Ok(Some(after));
    }
    let (used, limited) = (used.only(exceeded), hard.only(exceeded));
    Err(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        beyond.told(),
        used.told(),
        limited.told()
    ))
}

/// What is used of a quota by objects, each with what it is.
pub fn used<'a>(quota: &Value, objects: impl Iterator<Item = (Of<'a>, &'a Value)>) -> Amounts {
    let hard = Amounts::read(&quota["spec"]["hard"]);
    let mut used = Amounts(hard.0.keys().map(|name| (name.clone(), Amount::default())).collect());
    for (of, object) in objects {
        if selects(quota, of, object) {
            used.add(&of.usage(object).only(|name| hard.0.contains_key(name)));
        }
    }
    used
}

/// What is wrong with a quota.
pub fn problems(quota: &Value) -> Vec<crate::Cause> {
    use crate::Cause;
    let mut causes = Vec::new();
    for (name, value) in quota["spec"]["hard"].as_object().into_iter().flatten() {
        let field = format!("spec.hard[{name}]");
        let is_known = name.contains('/')
            || name.starts_with("hugepages-")
            || name.starts_with("requests.hugepages-")
            || [
                "pods",
                "services",
                "persistentvolumeclaims",
                "configmaps",
                "secrets",
                "resourcequotas",
                "replicationcontrollers",
            ]
            .iter()
            .any(|plural| Of { group: "", plural }.counts(name));
        if !is_known {
            causes.push(Cause::invalid(
                field.clone(),
                &Value::from(name.as_str()),
                "must be a standard resource for quota",
            ));
        }
        if Amount::read(value).is_some_and(|amount| amount.milli < 0) {
            causes.push(Cause::invalid(field, value, "must be greater than or equal to 0"));
        }
    }
    const SCOPES: [&str; 6] = [
        "BestEffort",
        "CrossNamespacePodAffinity",
        "NotBestEffort",
        "NotTerminating",
        "PriorityClass",
        "Terminating",
    ];
    let scopes: Vec<&str> = list(quota, "/spec/scopes").iter().filter_map(Value::as_str).collect();
    for scope in &scopes {
        if !SCOPES.contains(scope) && *scope != "VolumeAttributesClass" {
            causes.push(Cause::invalid("spec.scopes", &Value::from(scopes.clone()), "unsupported scope"));
        }
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&one) && scopes.contains(&other) {
            causes.push(Cause::invalid("spec.scopes", &Value::from(scopes.clone()), "conflicting scopes"));
        }
    }
    causes
}
