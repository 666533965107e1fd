//! What a node may ask for: its own node and lease, its pods, and what its pods refer to. Identity is the
//! certificate's, never the message's (better than KubeEdge, docs/protocol/transport.md 3.1).

use apimachinery::kinds::NODE_LEASES;
use message::{NodeName, ObjectKey, ObjectKind, Request, Status, Upstream, Verb};
use serde::Deserialize;

use crate::edgecontroller::{Rights, is_for_own_name, is_mirror_of};

/// Why a message was refused, as the API server would word it.
pub fn refusal(node: &NodeName, what: &str) -> Status {
    Status::new(403, "Forbidden", format!("node {node} may not {what}"))
}

/// Checks one message of `node`.
pub async fn check(node: &NodeName, upstream: &Upstream, rights: &Rights) -> Result<(), Status> {
    match upstream {
        Upstream::Ask(request) => check_request(node, request, rights).await,
        Upstream::Event { namespace, verb, object, .. } => {
            let involved = involved(object, *verb);
            let own = match involved.kind.as_str() {
                // Events of what has no namespace are in this one.
                "Node" => involved.name == node.as_str() && namespace == "default",
                "Pod" => {
                    involved.namespace == *namespace
                        && rights.owned_pod(node, namespace, &involved.name, &involved.uid).await?
                }
                _ => false,
            };
            allow(own, node, || format!("write events about {} {}", involved.kind, involved.name))
        }
        // The device controller knows whose device it is.
        Upstream::TwinReport { namespace, name, .. } | Upstream::DeviceState { namespace, name, .. } => {
            let own = rights.owns_device(node, namespace, name).await?;
            allow(own, node, || format!("report on device {namespace}/{name}"))
        }
        Upstream::Keepalive
        | Upstream::Control
        | Upstream::Acknowledged { .. }
        | Upstream::Complaint { .. }
        // Taken only from the node that was asked.
        | Upstream::VolumeAnswer { .. }
        | Upstream::MembershipDetail { .. }
        // Each request in it is judged by what it asks for.
        | Upstream::Application(_)
        | Upstream::Unsupported { .. } => Ok(()),
    }
}

async fn check_request(node: &NodeName, request: &Request, rights: &Rights) -> Result<(), Status> {
    match request {
        Request::CreateNode { node: named, .. }
        | Request::UpdateNode { node: named, .. }
        | Request::PatchNodeStatus { node: named, .. }
        | Request::EnsureNode { node: named, .. }
        | Request::ReportNode { node: named, .. }
        | Request::Lease { node: named, .. } => {
            allow(named == node, node, || format!("write the node or lease of {named}"))
        }
        Request::PatchPodStatus { namespace, name, .. } | Request::DeletePod { namespace, name, .. } => {
            // A pod that is gone is answered with NotFound, which ends the edge's retries.
            let own = rights.owns_or_lost_pod(node, namespace, name).await?;
            allow(own, node, || format!("change pod {namespace}/{name}"))
        }
        Request::ReportPods { namespace, reports } => {
            for report in reports {
                let own = rights.owns_or_lost_pod(node, namespace, &report.name).await?;
                allow(own, node, || format!("change pod {namespace}/{}", report.name))?;
            }
            Ok(())
        }
        Request::CreatePod { namespace, name, object } => {
            let own = object.parse().is_ok_and(|pod| is_mirror_of(&pod, node, namespace, name));
            allow(own, node, || format!("create pod {namespace}/{name}"))
        }
        Request::Token { namespace, service_account, request } => {
            let bound = bound_pod(request);
            let own = rights.may_mint(node, namespace, service_account, &bound.name, &bound.uid).await;
            allow(own, node, || format!("mint a token of service account {namespace}/{service_account}"))
        }
        Request::Get { key } => check_get(node, key, rights).await,
        Request::CreateSigningRequest { object, .. } => {
            let own = object.parse().is_ok_and(|object| is_for_own_name(&object, node));
            allow(own, node, || "ask for a certificate other than its own to serve with".to_owned())
        }
        Request::ClusterCa => Ok(()),
    }
}

async fn check_get(node: &NodeName, key: &ObjectKey, rights: &Rights) -> Result<(), Status> {
    let own = match &key.kind {
        ObjectKind::ConfigMap
        | ObjectKind::Secret
        | ObjectKind::PersistentVolume
        | ObjectKind::PersistentVolumeClaim
        | ObjectKind::VolumeAttachment
        | ObjectKind::CertificateSigningRequest => rights.may_read(node, key).await?,
        ObjectKind::Node => key.name == node.as_str(),
        // Which handler a class means is no secret, as with the kubelet's role in Kubernetes.
        ObjectKind::RuntimeClass => true,
        ObjectKind::Lease => key.name == node.as_str() && key.namespace.as_deref() == Some(NODE_LEASES),
        _ => false,
    };
    allow(own, node, || format!("read {key}"))
}

fn allow(allowed: bool, node: &NodeName, what: impl FnOnce() -> String) -> Result<(), Status> {
    if allowed { Ok(()) } else { Err(refusal(node, &what())) }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

/// What an event is about, read where it stands that will be written.
fn involved(event: &message::Json, verb: Verb) -> Reference {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Event {
        involved_object: Reference,
    }
    /// A patch wraps the event: {"event": .., "patchData": ..}.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wrapped {
        event: Event,
    }
    match verb {
        Verb::Patch => event.parse::<Wrapped>().unwrap_or_default().event.involved_object,
        Verb::Create | Verb::Update => event.parse::<Event>().unwrap_or_default().involved_object,
    }
}

fn bound_pod(request: &message::Json) -> Reference {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Spec {
        bound_object_ref: Reference,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct TokenRequest {
        spec: Spec,
    }
    request.parse::<TokenRequest>().unwrap_or_default().spec.bound_object_ref
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_about_what_is_written_and_not_about_what_stands_beside_it() {
        let both =
            json!({"involvedObject": {"name": "written"}, "event": {"involvedObject": {"name": "beside"}}});
        let both = message::Json::encode(&both).unwrap();
        assert_eq!(involved(&both, Verb::Create).name, "written");
        assert_eq!(involved(&both, Verb::Update).name, "written");
        assert_eq!(involved(&both, Verb::Patch).name, "beside");
    }
}
