//! What a node may ask for as itself, before the API server is asked: its own node, lease and pods, and what its pods refer to, as the
//! Node authorizer has it (`plugin/pkg/auth/authorizer/node`). API servers that have none rely on it. What is not about any of these
//! is left to the API server.

use apimachinery::kinds::NODE_LEASES;
use apimachinery::path::{RequestPath, ResourcePath, query_pairs};
use apimachinery::{FieldSelector, object};
use http::{Method, Uri};
use message::{NodeName, ObjectKey, ObjectKind, Status};
use serde_json::Value;

use crate::edgecontroller::{Rights, is_for_own_name, is_mirror_of};

/// What has to be so for a request.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// The API server decides alone.
    Nothing,
    /// It is never so.
    Never,
    /// The pod is the node's, or is gone.
    OwnPod { namespace: String, name: String },
    /// A pod of the node refers to it.
    Referred(ObjectKey),
    /// The body says something.
    Body(InBody),
}

#[derive(Debug, PartialEq, Eq)]
enum InBody {
    /// The node's own name.
    OwnNode,
    /// A mirror of a static pod of the node.
    Mirror { namespace: String },
    /// An event of the node or of its pods.
    Event { namespace: String },
    /// A pod of the node that runs under this account.
    Token { namespace: String, account: String },
    /// A certificate for the node's own name.
    SigningRequest,
    /// The node's own lease.
    OwnLease,
}

fn pinned(uri: &Uri, field: &str) -> Option<String> {
    let pairs = query_pairs(uri.query().unwrap_or_default());
    let selector = pairs.iter().find(|(name, _)| name == "fieldSelector").map(|(_, value)| value.as_str())?;
    FieldSelector::parse(selector).ok()?.pinned(field).map(str::to_owned)
}

/// What `node` needs for a request.
fn need(node: &str, method: &Method, uri: &Uri) -> Need {
    let Some(RequestPath::Resource(path)) = RequestPath::parse(uri.path()) else { return Need::Nothing };
    let ResourcePath { group, resource, namespace, name, subresource, .. } = &path;
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let own = |name: &str| if name == node { Need::Nothing } else { Need::Never };
    let makes = *method == Method::POST && name.is_empty();
    match (group.as_str(), resource.as_str(), subresource.as_str()) {
        ("", "nodes", "" | "status") if reads => Need::Nothing,
        ("", "nodes", "") if makes => Need::Body(InBody::OwnNode),
        ("", "nodes", "" | "status") => own(name),
        ("", "nodes", _) => Need::Never,
        ("" | "events.k8s.io", "events", "") if makes => {
            Need::Body(InBody::Event { namespace: namespace.clone() })
        }
        ("", "pods", "") if makes => Need::Body(InBody::Mirror { namespace: namespace.clone() }),
        ("", "pods", _) if name.is_empty() => match pinned(uri, "spec.nodeName") {
            Some(pinned) if reads => own(&pinned),
            _ => Need::Never,
        },
        ("", "pods", "" | "status") => Need::OwnPod { namespace: namespace.clone(), name: name.clone() },
        // Whoever evicts or binds is not the node.
        ("", "pods", _) => Need::Never,
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") if reads && !namespace.is_empty() => {
            let kind = match resource.as_str() {
                "secrets" => ObjectKind::Secret,
                "configmaps" => ObjectKind::ConfigMap,
                _ => ObjectKind::PersistentVolumeClaim,
            };
            let one = Some(name.clone()).filter(|name| !name.is_empty());
            match one.or_else(|| pinned(uri, "metadata.name")) {
                Some(name) => Need::Referred(ObjectKey::new(Some(namespace), kind, &name)),
                None => Need::Never,
            }
        }
        ("", "persistentvolumes", "") if reads && !name.is_empty() => {
            Need::Referred(ObjectKey::new(None, ObjectKind::PersistentVolume, name))
        }
        ("", "serviceaccounts", "token") if *method == Method::POST => {
            Need::Body(InBody::Token { namespace: namespace.clone(), account: name.clone() })
        }
        (
            "",
            "secrets" | "configmaps" | "persistentvolumeclaims" | "persistentvolumes" | "serviceaccounts",
            _,
        ) => Need::Never,
        ("coordination.k8s.io", "leases", _) if namespace != NODE_LEASES => Need::Never,
        ("coordination.k8s.io", "leases", _) if makes => Need::Body(InBody::OwnLease),
        ("coordination.k8s.io", "leases", _) if name.is_empty() => {
            pinned(uri, "metadata.name").map_or(Need::Never, |name| own(&name))
        }
        ("coordination.k8s.io", "leases", _) => own(name),
        ("storage.k8s.io", "csinodes", _) if !reads && !makes => own(name),
        ("storage.k8s.io", "csinodes", _) if makes => Need::Body(InBody::OwnNode),
        ("certificates.k8s.io", "certificatesigningrequests", "") if makes => {
            Need::Body(InBody::SigningRequest)
        }
        ("certificates.k8s.io", "certificatesigningrequests", _) if !reads => Need::Never,
        _ => Need::Nothing,
    }
}

/// True if the body of a creation is the node's to make.
async fn is_own(node: &NodeName, wanted: &InBody, body: &Value, rights: &Rights) -> Result<bool, Status> {
    let name = object::text(body, "/metadata/name");
    Ok(match wanted {
        InBody::OwnNode | InBody::OwnLease => name == node.as_str(),
        InBody::Mirror { namespace } => !name.is_empty() && is_mirror_of(body, node, namespace, name),
        InBody::Event { namespace } => {
            let about = body.get("involvedObject").or_else(|| body.get("regarding")).unwrap_or(&Value::Null);
            let (name, uid) = (object::text(about, "/name"), object::text(about, "/uid"));
            match object::text(about, "/kind") {
                // Events of what has no namespace are in this one.
                "Node" => name == node.as_str() && namespace == "default",
                "Pod" => {
                    object::text(about, "/namespace") == namespace
                        && rights.owned_pod(node, namespace, name, uid).await?
                }
                _ => false,
            }
        }
        InBody::SigningRequest => is_for_own_name(body, node),
        InBody::Token { namespace, account } => {
            let pod = &body["spec"]["boundObjectRef"];
            let (name, uid) = (object::text(pod, "/name"), object::text(pod, "/uid"));
            object::text(pod, "/kind") == "Pod" && rights.may_mint(node, namespace, account, name, uid).await
        }
    })
}

/// Refuses what is not the node's.
///
/// # Errors
/// 403 for that; 415 for a body that has to be read and is not JSON; 503 if it cannot be known now.
pub(super) async fn check(
    node: &NodeName,
    parts: &http::request::Parts,
    body: &[u8],
    rights: &Rights,
) -> Result<(), Status> {
    let is_allowed = match need(node.as_str(), &parts.method, &parts.uri) {
        Need::Nothing => true,
        Need::Never => false,
        Need::OwnPod { namespace, name } => rights.owns_or_lost_pod(node, &namespace, &name).await?,
        Need::Referred(key) => rights.may_read(node, &key).await?,
        Need::Body(wanted) => {
            let body: Value = serde_json::from_slice(body).map_err(|error| {
                let text = format!("what a node creates has to be JSON to be checked: {error}");
                Status::new(415, "UnsupportedMediaType", text)
            })?;
            is_own(node, &wanted, &body, rights).await?
        }
    };
    match is_allowed {
        true => Ok(()),
        false => {
            let text = format!("node {node} may not {} {}", parts.method, parts.uri.path());
            Err(Status::new(403, "Forbidden", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Need {
        let (method, uri) = line.split_once(' ').unwrap();
        need("e1", &method.parse().unwrap(), &uri.parse().unwrap())
    }

    #[test]
    fn a_node_reads_and_writes_its_own_and_no_others() {
        for line in [
            "GET /api/v1/nodes",
            "PATCH /api/v1/nodes/e1/status",
            "GET /api/v1/pods?fieldSelector=spec.nodeName%3De1&watch=1",
            "GET /api/v1/watch/pods?fieldSelector=spec.nodeName%3De1",
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/e1",
            "PATCH /api/v1/namespaces/a/events/e",
            "GET /api/v1/services?watch=1",
            "PATCH /apis/storage.k8s.io/v1/csinodes/e1",
            "GET /apis/example.com/v1/things",
        ] {
            assert_eq!(of(line), Need::Nothing, "{line}");
        }
        for line in [
            "PATCH /api/v1/nodes/e2/status",
            "DELETE /api/v1/nodes/e2",
            "GET /api/v1/nodes/e1/proxy/pods",
            "GET /api/v1/pods",
            "GET /api/v1/pods?fieldSelector=spec.nodeName%21%3De1",
            "GET /api/v1/pods?fieldSelector=spec.nodeName%3De2",
            "DELETE /api/v1/namespaces/a/pods?fieldSelector=spec.nodeName%3De1",
            "POST /api/v1/namespaces/a/pods/p/exec",
            "POST /api/v1/namespaces/a/pods/p/eviction",
            "GET /api/v1/secrets",
            "GET /api/v1/namespaces/a/secrets",
            "GET /api/v1/namespaces/a/secrets?fieldSelector=metadata.name%21%3Ds",
            "PATCH /api/v1/namespaces/a/secrets/s",
            "GET /api/v1/namespaces/a/serviceaccounts/s",
            "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/e2",
            "GET /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x",
            "PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval",
            "PATCH /apis/storage.k8s.io/v1/csinodes/e2",
        ] {
            assert_eq!(of(line), Need::Never, "{line}");
        }
    }

    #[test]
    fn what_pods_refer_to_is_asked_for_by_name() {
        let secret = || Need::Referred(ObjectKey::new(Some("a"), ObjectKind::Secret, "s"));
        assert_eq!(of("GET /api/v1/namespaces/a/secrets/s"), secret());
        assert_eq!(of("GET /api/v1/namespaces/a/secrets?watch=1&fieldSelector=metadata.name%3Ds"), secret());
        assert_eq!(of("GET /api/v1/namespaces/a/secrets/%73"), secret());
        let pod = Need::OwnPod { namespace: "a".into(), name: "p".into() };
        assert_eq!(of("PATCH /api/v1/namespaces/a/pods/p/status"), pod);
        assert_eq!(of("POST /api/v1/nodes"), Need::Body(InBody::OwnNode));
        assert_eq!(
            of("POST /api/v1/namespaces/a/pods"),
            Need::Body(InBody::Mirror { namespace: "a".into() })
        );
        let event = InBody::Event { namespace: "a".into() };
        assert_eq!(of("POST /apis/events.k8s.io/v1/namespaces/a/events"), Need::Body(event));
        let token = InBody::Token { namespace: "a".into(), account: "s".into() };
        assert_eq!(of("POST /api/v1/namespaces/a/serviceaccounts/s/token"), Need::Body(token));
    }
}
