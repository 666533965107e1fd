//! What happens to an object between the request and storage: defaults, additions, checks.

mod configs;
pub(crate) mod grants;
pub(crate) mod limits;
pub(crate) mod node_restriction;
mod pods;
mod priorities;
mod runtime_classes;
mod service_accounts;
mod workloads;

use apimachinery::webhooks::{self, Phase};
use apimachinery::{
    Cause, Status, apiservice, flow, object, plain, pod, quota, rbac, schema, service, workload,
};
use kubeapi::registry::{self, Served};
use kubeapi::target::Target;
use kubeapi::user::User;
use serde_json::{Value, json};

use crate::addresses::Reserved;
use crate::certificates;
use crate::context::Context;
use crate::rules;

/// True if `metadata.generation` follows the spec of this resource.
pub(crate) fn counts_generations(served: &Served) -> bool {
    let resource = &served.resource;
    resource.custom
        || served.is_definition()
        || served.is_core("pods")
        || served.is_core("replicationcontrollers")
        || matches!(
            resource.group.as_str(),
            "admissionregistration.k8s.io" | "apps" | "batch" | flow::GROUP | "policy"
        )
        || (resource.group == "resource.k8s.io"
            && matches!(resource.plural.as_str(), "deviceclasses" | "resourceslices"))
        || (resource.group == "networking.k8s.io"
            && !matches!(resource.plural.as_str(), "servicecidrs" | "ipaddresses"))
}

/// A signing request says who made it, whatever its maker wrote there: approvers go by it.
pub(crate) fn sign_for(served: &Served, user: &User, value: &mut Value) {
    if !is_signing_request(served) || !value["spec"].is_object() {
        return;
    }
    for (field, said) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        match said.as_str() == Some("") || said.as_object().is_some_and(|map| map.is_empty()) {
            true => drop(object::as_map(&mut value["spec"]).remove(field)),
            false => value["spec"][field] = said,
        }
    }
}

pub(crate) fn is_signing_request(served: &Served) -> bool {
    let resource = &served.resource;
    (resource.group.as_str(), resource.plural.as_str())
        == ("certificates.k8s.io", "certificatesigningrequests")
}

fn is_daemon_set(served: &Served) -> bool {
    (served.resource.group.as_str(), served.resource.plural.as_str()) == ("apps", "daemonsets")
}

/// The finalizer of a namespace's spec that goes when what is in it has gone.
pub(crate) const EMPTIES: &str = "kubernetes";

/// Completes a new object.
pub(crate) async fn create(context: &Context, target: &Target, value: &mut Value) -> Result<(), Status> {
    let served = &target.served;
    // Nodes register with their status.
    if served.version().status && !served.is_core("nodes") {
        object::as_map(value).remove("status");
    }
    if served.is_core("pods") {
        service_accounts::attach(context, target, value).await?;
        priorities::resolve(context, target, value).await?;
        pod::defaults::pod(value);
        limits::default_pod(context, target, value);
        pods::start(value);
        runtime_classes::resolve(context, target, value).await?;
    }
    if served.is_core("namespaces") {
        value["status"] = json!({ "phase": "Active" });
        let spec = object::map_in(object::as_map(value), "spec");
        object::set_default(spec, "finalizers", json!([]));
        if let Some(Value::Array(finalizers)) = spec.get_mut("finalizers")
            && !finalizers.contains(&json!(EMPTIES))
        {
            finalizers.push(json!(EMPTIES));
        }
    }
    if is_signing_request(served) {
        value["status"] = json!({});
    }
    if served.is_core("services") {
        value["status"] = json!({ "loadBalancer": {} });
    }
    if served.is_core("persistentvolumes") {
        value["status"] = json!({ "phase": "Pending" });
        hold(value, "kubernetes.io/pv-protection");
    }
    if served.is_core("persistentvolumeclaims") {
        value["status"] = json!({ "phase": "Pending" });
        hold(value, "kubernetes.io/pvc-protection");
    }
    if let Some(status) = first_status(&served.resource.group, &served.resource.plural) {
        value["status"] = status;
    }
    if served.resource.group == apiservice::GROUP {
        value["status"] = match value["spec"]["service"].is_null() {
            true => {
                let now = daemon::clock::rfc3339(daemon::clock::now());
                apiservice::with_availability(&Value::Null, &apiservice::Availability::local(), &now)
            }
            false => json!({}),
        };
    }
    if (served.resource.group.as_str(), served.resource.plural.as_str()) == ("batch", "jobs") {
        workloads::new_job(value);
    }
    complete(served, value);
    if is_daemon_set(served) {
        workloads::template_generation(None, value);
    }
    if served.is_definition() {
        context.registry.accept(value, &daemon::clock::rfc3339(daemon::clock::now()), true);
    }
    Ok(())
}

/// The finalizer of something that is kept while it is used (`plugin/pkg/admission/storage/storageobjectinuseprotection`).
fn hold(value: &mut Value, finalizer: &str) {
    let finalizers = object::metadata(value).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(all) = finalizers.as_array_mut().filter(|all| !all.contains(&json!(finalizer))) {
        all.push(json!(finalizer));
    }
}

/// The status of a new object of which nothing is known yet: the fields that its kind always has.
fn first_status(group: &str, plural: &str) -> Option<Value> {
    Some(match (group, plural) {
        ("apps", "deployments") | ("batch", "jobs" | "cronjobs") | ("", "resourcequotas") => json!({}),
        ("apps", "replicasets") => json!({ "replicas": 0 }),
        ("autoscaling", _) => json!({ "desiredReplicas": 0, "currentMetrics": null }),
        ("apps", "statefulsets") => json!({ "replicas": 0, "availableReplicas": 0 }),
        ("apps", "daemonsets") => json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0 }),
        _ => return None,
    })
}

/// Completes a changed object.
pub(crate) fn update(context: &Context, target: &Target, old: &Value, new: &mut Value) -> Result<(), Status> {
    if target.served.is_core("pods") {
        pods::keep(old, new);
        pods::tolerate(new);
    }
    if target.served.is_core("services") {
        service::keep(old, new);
    }
    if target.served.is_core("namespaces") && target.subresource != "finalize" {
        new["spec"] = old["spec"].clone();
    }
    if is_signing_request(&target.served) {
        new["spec"] = old["spec"].clone();
    }
    complete(&target.served, new);
    if is_daemon_set(&target.served) {
        workloads::template_generation(Some(old), new);
    }
    if target.served.is_definition() && old["spec"] != new["spec"] {
        context.registry.accept(new, &daemon::clock::rfc3339(daemon::clock::now()), false);
    }
    Ok(())
}

/// Defaults that apply to new and changed objects alike.
pub(crate) fn complete(served: &Served, value: &mut Value) {
    if served.is_definition() {
        registry::with_defaults(value, &daemon::clock::rfc3339(daemon::clock::now()));
        return;
    }
    match (served.resource.group.as_str(), served.resource.plural.as_str()) {
        ("", "pods") => pod::defaults::pod(value),
        ("", "secrets") => configs::secret(value),
        ("", "namespaces") => {
            let name = object::name(value).to_owned();
            let labels = object::map_in(object::metadata(value), "labels");
            labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        }
        ("", "services") => service::complete(value),
        ("", "limitranges") => apimachinery::limits::complete(value),
        ("", "nodes") => {
            object::map_in(object::as_map(value), "spec");
            allocatable(value);
        }
        ("", plural @ "replicationcontrollers") | ("apps" | "batch", plural) => {
            workloads::complete(plural, value);
            pod::defaults::template(value);
        }
        (group, resource) => {
            if rules::is_of_policies(served) {
                celrules::complete(value);
            }
            if let Some(phase) = Phase::of_resource(group, resource) {
                webhooks::complete(phase, value);
            }
            plain::complete(group, resource, value);
        }
    }
}

/// All of a node is for pods, unless it says otherwise.
pub(crate) fn allocatable(node: &mut Value) {
    let status = &mut node["status"];
    if status["capacity"].is_object() && status["allocatable"].is_null() {
        status["allocatable"] = status["capacity"].clone();
    }
    if node["status"].is_null() {
        object::as_map(node).remove("status");
    }
}

/// What is wrong with an object of a built-in resource.
pub(crate) fn problems(served: &Served, value: &Value) -> Vec<Cause> {
    if served.is_definition() {
        return registry::problems(value);
    }
    match (served.resource.group.as_str(), served.resource.plural.as_str()) {
        ("", "pods") => pod::problems("spec", &value["spec"]),
        ("apps", "deployments" | "daemonsets" | "replicasets" | "statefulsets") => {
            let mut causes = pod::problems("spec.template.spec", &value["spec"]["template"]["spec"]);
            causes.extend(workload::problems(&served.resource.plural, value));
            if value["spec"]["selector"].is_null() {
                causes.push(Cause::required("spec.selector", ""));
            } else if !workloads::selects_itself(value) {
                let (field, labels) =
                    ("spec.template.metadata.labels", &value["spec"]["template"]["metadata"]["labels"]);
                causes.push(Cause::invalid(field, labels, "`selector` does not match template `labels`"));
            }
            causes
        }
        ("", "replicationcontrollers") => workloads::replication_problems(value),
        ("batch", "jobs") => {
            let mut causes = pod::problems("spec.template.spec", &value["spec"]["template"]["spec"]);
            if workloads::restarts_always(value) {
                let why = "valid values: \"OnFailure\", \"Never\"";
                causes.push(Cause::required("spec.template.spec.restartPolicy", why));
            }
            causes.extend(workload::problems("jobs", value));
            causes
        }
        ("batch", "cronjobs") => {
            let mut causes = workload::problems("cronjobs", value);
            causes.extend(workloads::schedule_problems(value));
            causes
        }
        ("policy", "poddisruptionbudgets") => workload::problems(&served.resource.plural, value),
        ("", "configmaps" | "secrets") => configs::problems(value),
        ("", "services") => service::problems(value),
        ("certificates.k8s.io", "certificatesigningrequests") => certificates::problems(value),
        ("", "resourcequotas") => quota::problems(value),
        (group, resource) => match (Phase::of_resource(group, resource), rules::binding(served)) {
            (Some(phase), _) => hooks(phase, value),
            (None, Some(kind)) => celrules::binding_problems(kind, value),
            (None, None) => {
                let mut causes = plain::problems(group, resource, value);
                causes.extend(grants::problems(group, resource, value));
                causes
            }
        },
    }
}

/// Labels of nodes that have other names now, since when, and these.
const RENAMED: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// What a client is told of a new object that uses what is deprecated (`pkg/api/pod/warnings.go`).
pub(crate) fn deprecated(served: &Served, value: &Value) -> Vec<String> {
    let at = match (served.resource.group.as_str(), served.resource.plural.as_str()) {
        ("", "pods") => "spec",
        ("apps", _) | ("batch", "jobs") => "spec.template.spec",
        _ => return vec![],
    };
    let spec = &value.pointer(&format!("/{}", at.replace('.', "/"))).unwrap_or(&Value::Null)["nodeSelector"];
    let used = RENAMED.iter().filter(|(label, ..)| spec.get(label).is_some());
    used.map(|(label, since, now)| {
        format!("{at}.nodeSelector[{label}]: deprecated since {since}; use {now:?} instead")
    })
    .collect()
}

/// What is wrong with a configuration of webhooks, the CAs included.
fn hooks(phase: Phase, value: &Value) -> Vec<Cause> {
    let mut causes = webhooks::problems(phase, value);
    for (at, hook) in webhooks::read(value).iter().enumerate().filter(|_| causes.is_empty()) {
        if !hook.ca.is_empty()
            && let Err(error) = pki::Bundle::from_pem(&hook.ca)
        {
            let field = format!("webhooks[{at}].clientConfig.caBundle");
            let detail = format!("unable to load root certificates: {error}");
            causes.push(Cause::invalid(field, &json!("<omitted>"), &detail));
            break;
        }
    }
    causes
}

/// What an update must not have changed.
pub(crate) fn changes(target: &Target, old: &Value, new: &Value) -> Vec<Cause> {
    let served = &target.served;
    // What was stored before a default was known has it now.
    let completed = || {
        let mut old = old.clone();
        complete(served, &mut old);
        old
    };
    match (served.resource.group.as_str(), served.resource.plural.as_str()) {
        ("", "pods") => {
            let mut causes = pods::changes(old, new);
            causes.extend(pods::ephemeral(&target.subresource, old, new));
            causes
        }
        ("", "configmaps" | "secrets") => configs::changes(old, new),
        ("", "services") => service::changes(old, new),
        ("apps", "deployments" | "daemonsets" | "replicasets" | "statefulsets") | ("batch", "jobs")
            if old["spec"]["selector"] != new["spec"]["selector"] =>
        {
            vec![Cause::invalid("spec.selector", &new["spec"]["selector"], "field is immutable")]
        }
        ("apps" | "batch", plural) => workload::changes(plural, &completed(), new),
        (rbac::GROUP, "rolebindings" | "clusterrolebindings") => rbac::roles_changed(old, new),
        (group, plural) => plain::changes(group, plural, &completed(), new),
    }
}

/// Prunes, defaults and checks a custom resource by its schema.
///
/// What was wrong before and has not been touched may stay (KEP-4008); the result tells of such, by rules.
pub(crate) async fn custom(
    context: &Context,
    served: &Served,
    old: Option<&Value>,
    value: &mut Value,
    name: &str,
) -> Result<Vec<String>, Status> {
    let Some(schema) = &served.version().schema else { return Ok(vec![]) };
    schema::prune(value, schema);
    schema::defaults(value, schema);
    // The stored form has no type; a schema that requires it is satisfied by the envelope.
    let wrong = |value: &Value| schema::validate(&rules::typed(served, value), schema);
    let mut causes = wrong(value);
    if let (Some(old), false) = (old, causes.is_empty()) {
        let before = wrong(old);
        causes.retain(|cause| !before.contains(cause));
    }
    let verdict = context.rules.custom(served, old, value, &causes).await?;
    causes.extend(verdict.causes);
    refuse(served, name, causes)?;
    Ok(verdict.kept.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect())
}

/// Gives a service its addresses and ports, which are held until the result is dropped.
pub(crate) fn assign(
    context: &Context,
    target: &Target,
    old: Option<&Value>,
    value: &mut Value,
) -> Result<Reserved, Status> {
    let resource = &target.served.resource;
    let refused = |causes| Status::invalid(&resource.group, &resource.kind, &target.name, causes);
    context.addresses.assign(old, value).map_err(refused)
}

/// 422 if there are causes.
pub(crate) fn refuse(served: &Served, name: &str, causes: Vec<Cause>) -> Result<(), Status> {
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&served.resource.group, &served.resource.kind, name, causes)),
    }
}
