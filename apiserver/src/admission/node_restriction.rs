//! What a node may change (`plugin/pkg/admission/noderestriction`): itself, its lease, mirrors of its static pods, and the statuses of
//! pods that are bound to it.

use std::collections::BTreeSet;

use apimachinery::Status;
use apimachinery::object::{self, list, map_in, text};
use apimachinery::pod::references::References;
use apimachinery::rbac::{Attributes, What};
use apimachinery::webhooks::Operation;
use kubeapi::stored::Key;
use kubeapi::target::Target;
use kubeapi::user::User;
use serde_json::Value;

use crate::authorise::{self, node};
use crate::context::Context;
use crate::signer::ISSUER;
use crate::webhooks::Objects;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of Kubernetes' own that a node may give itself, beside those of its own namespaces.
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
];
const OWN_SPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// 403 if `user` is a node and this is not its to do.
pub(crate) async fn check(
    context: &Context,
    user: &User,
    target: &Target,
    operation: Operation,
    objects: Objects<'_>,
) -> Result<(), Status> {
    let Some(node) = node::of(user) else { return Ok(()) };
    let resource = &target.served.resource;
    let asked = Asked { context, user, node, target, operation, objects };
    let checked = match (resource.group.as_str(), resource.plural.as_str()) {
        _ if node.is_empty() => Err(format!("could not determine node from user {:?}", user.name).into()),
        ("", "pods") => match target.subresource.as_str() {
            "" => asked.pod().await,
            "status" => asked.pod_status(),
            "eviction" => asked.eviction().await,
            other => {
                Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")
                    .into())
            }
        },
        ("", "nodes") => asked.own_node(),
        ("", "persistentvolumeclaims") if target.subresource == "status" => asked.claim_status(),
        ("", "persistentvolumeclaims") => Err("may only update PVC status".to_owned().into()),
        ("", "serviceaccounts") if target.subresource == "token" && operation == Operation::Create => {
            asked.token().await
        }
        ("coordination.k8s.io", "leases") if target.namespace != node::LEASES => {
            Err(format!("can only access leases in the {:?} system namespace", node::LEASES).into())
        }
        ("coordination.k8s.io", "leases") if target.name != node => {
            Err("can only access node lease with the same name as the requesting node".to_owned().into())
        }
        ("storage.k8s.io", "csinodes") if target.name != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned().into())
        }
        _ => Ok(()),
    };
    checked.map_err(|refusal| match refusal {
        Refusal::Why(why) => Status::refused(&resource.group, &resource.plural, &target.name, &why),
        Refusal::Status(status) => status,
    })
}

/// Why not.
enum Refusal {
    Why(String),
    Status(Status),
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal::Why(why)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::Status(status)
    }
}

struct Asked<'a> {
    context: &'a Context,
    user: &'a User,
    node: &'a str,
    target: &'a Target,
    operation: Operation,
    objects: Objects<'a>,
}

impl Asked<'_> {
    async fn pod(&self) -> Result<(), Refusal> {
        let node = self.node;
        match self.operation {
            Operation::Create => self.mirror().await,
            Operation::Delete => match self.objects.old.is_some_and(|pod| self.has(pod)) {
                true => Ok(()),
                false => {
                    Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself").into())
                }
            },
            other => {
                let operation = other.as_str();
                Err(format!(
                    "unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"
                )
                .into())
            }
        }
    }

    fn has(&self, pod: &Value) -> bool {
        text(pod, "/spec/nodeName") == self.node
    }

    async fn mirror(&self) -> Result<(), Refusal> {
        let node = self.node;
        let pod = self.objects.new.unwrap_or(&Value::Null);
        let no = |why: String| Err(Refusal::Why(why));
        if pod["metadata"]["annotations"].get(MIRROR).is_none() {
            return no(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if !self.has(pod) {
            return no(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners = list(pod, "/metadata/ownerReferences");
        let [owner] = owners else {
            let single = if owners.is_empty() { "an owner" } else { "a single owner" };
            return no(format!("node {node:?} can only create pods with {single} reference set to itself"));
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != *node {
            return no(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        if owner["controller"] != true {
            return no(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner["blockOwnerDeletion"] == true {
            return no(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let found = self.context.storage.get(&Key::new("nodes", "", node)).await?;
        let found = found.ok_or_else(|| Status::not_found("", "nodes", node))?.value()?;
        if object::uid(&found) != text(owner, "/uid") {
            let (wanted, got) = (object::uid(&found), text(owner, "/uid"));
            return no(format!("node {node:?} UID mismatch: expected {wanted} got {got}"));
        }
        let refers = References::of(pod);
        let account = text(pod, "/spec/serviceAccountName");
        let claims =
            list(pod, "/spec/volumes").iter().any(|volume| volume["persistentVolumeClaim"].is_object());
        let what = match () {
            () if !account.is_empty() => "a service account",
            () if !refers.secrets.is_empty() => "secrets",
            () if !refers.config_maps.is_empty() => "configmaps",
            () if refers.token => "serviceaccounts",
            () if claims => "persistentvolumeclaims",
            () if !list(pod, "/spec/resourceClaims").is_empty() => "resourceclaims",
            () => return Ok(()),
        };
        no(format!("node {node:?} can not create pods that reference {what}"))
    }

    fn pod_status(&self) -> Result<(), Refusal> {
        let node = self.node;
        let (Some(old), Some(new)) = (self.objects.old, self.objects.new) else { return Ok(()) };
        if !self.has(old) {
            let why =
                format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
            return Err(why.into());
        }
        if old["metadata"]["labels"] != new["metadata"]["labels"] {
            return Err(format!("node {node:?} cannot update labels through pod status").into());
        }
        if old["status"]["resourceClaimStatuses"] != new["status"]["resourceClaimStatuses"] {
            return Err(format!("node {node:?} cannot update resource claim statuses").into());
        }
        Ok(())
    }

    async fn eviction(&self) -> Result<(), Refusal> {
        let node = self.node;
        let key = Key::new("pods", &self.target.namespace, &self.target.name);
        let pod = self.context.storage.get(&key).await?;
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", &key.name))?.value()?;
        match self.has(&pod) {
            true => Ok(()),
            false => Err(format!("node {node} can only evict pods with spec.nodeName set to itself").into()),
        }
    }

    /// A node neither frees itself of taints nor gives itself labels that workloads are kept to.
    fn own_node(&self) -> Result<(), Refusal> {
        let (node, named) = (self.node, self.target.name.as_str());
        if named != node {
            return Err(format!("node {node:?} is not allowed to modify node {named:?}").into());
        }
        let Some(new) = self.objects.new else { return Ok(()) };
        let labels = forbidden(self.objects.old, new).into_iter().collect::<Vec<_>>().join(", ");
        let Some(old) = self.objects.old else {
            return match labels.is_empty() {
                true => Ok(()),
                false => {
                    Err(format!("node {node:?} is not allowed to set the following labels: {labels}").into())
                }
            };
        };
        let taints = |node: &Value| list(node, "/spec/taints").to_vec();
        if taints(old) != taints(new) {
            return Err(format!("node {node:?} is not allowed to modify taints").into());
        }
        if !labels.is_empty() {
            return Err(format!("is not allowed to modify labels: {labels}").into());
        }
        let owners = |node: &Value| list(node, "/metadata/ownerReferences").to_vec();
        if owners(old) != owners(new) {
            return Err(format!("node {node:?} is not allowed to modify ownerReferences").into());
        }
        Ok(())
    }

    fn claim_status(&self) -> Result<(), Refusal> {
        let (Some(old), Some(new)) = (self.objects.old, self.objects.new) else { return Ok(()) };
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            let status = map_in(object::as_map(&mut claim), "status");
            for field in [
                "allocatedResourceStatuses",
                "allocatedResources",
                "capacity",
                "conditions",
                "modifyVolumeStatus",
            ] {
                status.remove(field);
            }
            object::metadata(&mut claim)
                .retain(|field, _| !matches!(field.as_str(), "resourceVersion" | "managedFields"));
            claim
        };
        match rest(old) == rest(new) {
            true => Ok(()),
            false => {
                let node = self.node;
                let what = "is not allowed to update fields other than status.quantity and status.conditions";
                Err(format!("node {node:?} {what}").into())
            }
        }
    }

    async fn token(&self) -> Result<(), Refusal> {
        let request = self.objects.new.unwrap_or(&Value::Null);
        let no = |why: &str| Err(Refusal::Why(why.to_owned()));
        let bound = &request["spec"]["boundObjectRef"];
        let (name, uid) = (text(bound, "/name"), text(bound, "/uid"));
        if bound["apiVersion"] != "v1" || bound["kind"] != "Pod" || name.is_empty() {
            return no("node requested token not bound to a pod");
        }
        if uid.is_empty() {
            return no("node requested token with a pod binding without a uid");
        }
        let found = self.context.storage.get(&Key::new("pods", &self.target.namespace, name)).await?;
        let pod = found.ok_or_else(|| Status::not_found("", "pods", name))?.value()?;
        if object::uid(&pod) != uid {
            return Err(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted \
                 and then recreated"
            )
            .into());
        }
        if !self.has(&pod) {
            return no("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(&pod, list(request, "/spec/audiences"))
    }

    /// A node asks for tokens for those only that its pod shows them to, or for whom a role lets it.
    fn audience(&self, pod: &Value, audiences: &[Value]) -> Result<(), Refusal> {
        let wanted = match audiences {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return Err("node may only request 0 or 1 audiences".to_owned().into()),
        };
        let volumes = list(pod, "/spec/volumes").iter();
        let sources = volumes.flat_map(|volume| list(volume, "/projected/sources"));
        let mut shown =
            sources.map(|source| &source["serviceAccountToken"]).filter(|token| token.is_object());
        let is_shown = shown.any(|token| {
            let own = text(token, "/audience");
            own == wanted || (own.is_empty() && wanted == ISSUER)
        });
        let what = What::Resource {
            group: "",
            resource: wanted,
            subresource: "",
            namespace: &self.target.namespace,
            name: &self.target.name,
        };
        let asked = Attributes::new("request-serviceaccounts-token-audience", what);
        match is_shown || authorise::decide(self.context, self.user, &asked).is_ok() {
            true => Ok(()),
            false => Err(format!("audience {wanted:?} not found in pod spec volume, {} not authorized to request tokens for this audience", self.user.name).into()),
        }
    }
}

/// Labels that differ and that are not the node's to set.
fn forbidden(old: Option<&Value>, new: &Value) -> BTreeSet<String> {
    let labels = |node: Option<&Value>| {
        let labels = node.map(|node| node["metadata"]["labels"].clone());
        labels.and_then(|labels| labels.as_object().cloned()).unwrap_or_default()
    };
    let (before, now) = (labels(old), labels(Some(new)));
    let differs = |label: &&String| before.get(*label) != now.get(*label);
    before.keys().chain(now.keys()).filter(differs).filter(|label| !is_own(label)).cloned().collect()
}

fn is_own(label: &str) -> bool {
    let space = label.split_once('/').map_or("", |(space, _)| space);
    let is_in = |of: &str| space == of || space.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if is_in(RESTRICTED) {
        return false;
    }
    let is_of_kubernetes = is_in("kubernetes.io") || is_in("k8s.io");
    !is_of_kubernetes || OWN_LABELS.contains(&label) || OWN_SPACES.iter().any(|own| is_in(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_set_its_own_labels_and_those_of_others_than_kubernetes() {
        for own in ["kubernetes.io/os", "x.node.kubernetes.io/a", "example.com/a", "a", "notkubernetes.io/a"]
        {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "node-restriction.kubernetes.io/a",
            "a.node-restriction.kubernetes.io/b",
            "kubernetes.io/a",
            "a.k8s.io/b",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
