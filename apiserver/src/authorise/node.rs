//! What a node may do (`plugin/pkg/auth/authorizer/node`): what its role says, but for what is about other nodes and their pods.

use std::sync::LazyLock;

use apimachinery::rbac::defaults;
use apimachinery::rbac::{Attributes, Rule, What};
use kubeapi::user::User;

use crate::graph::{Graph, Kind};

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
/// Where leases of nodes are.
pub(crate) const LEASES: &str = "kube-node-lease";

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(defaults::node_rules);

/// The node that `user` is; empty if it does not say which one.
pub(crate) fn of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX)?;
    user.groups.iter().any(|group| group == GROUP).then_some(name)
}

/// Whether `node` may do this, as far as it is for nodes; if not, why, which may be empty.
pub(crate) fn decide(graph: &Graph, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    let no = |why: &str| Err(why.to_owned());
    if node.is_empty() {
        return no("unknown node for user \"system:node:\"");
    }
    let What::Resource { group, resource, subresource, namespace, name } = asked.what else {
        return by_role(asked);
    };
    let verb = asked.verb;
    let related = |kind: Kind| match name {
        "" => Err("No Object name found".to_owned()),
        _ if graph.relates(node, kind, namespace, name) => Ok(()),
        _ => Err(format!("no relationship found between node '{node}' and this object")),
    };
    let get = |kind: Kind| match (verb, subresource) {
        ("get", "") => related(kind),
        ("get", _) => no("cannot get subresource"),
        _ => no("can only get individual resources of this type"),
    };
    match (group, resource) {
        ("", "secrets" | "configmaps") => match (verb, subresource, namespace) {
            ("get" | "list" | "watch", "", "") => no("can only read namespaced object of this type"),
            ("get" | "list" | "watch", "", _) => {
                related(if resource == "secrets" { Kind::Secret } else { Kind::ConfigMap })
            }
            ("get" | "list" | "watch", ..) => no("cannot read subresource"),
            _ => no("can only read resources of this type"),
        },
        ("", "persistentvolumeclaims") if subresource == "status" => match verb {
            "get" | "update" | "patch" => related(Kind::Claim),
            _ => no("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims") => get(Kind::Claim),
        ("", "persistentvolumes") => get(Kind::Volume),
        ("resource.k8s.io", "resourceclaims") => get(Kind::ResourceClaim),
        ("storage.k8s.io", "volumeattachments") => get(Kind::Attachment),
        ("", "serviceaccounts") => match (verb, subresource, name) {
            ("get", "", _) => related(Kind::Account),
            ("create", "token", "") | ("get", ..) => {
                no("can only create tokens for individual service accounts")
            }
            ("create", "token", _) => related(Kind::Account),
            ("create", ..) => no("can only create token subresource of serviceaccounts"),
            _ => no("can only create tokens for individual service accounts"),
        },
        ("coordination.k8s.io", "leases") => match verb {
            "get" | "create" | "update" | "patch" | "delete" if namespace != LEASES => {
                Err(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            // Which one it makes is admission's to see.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" if name == node => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                no("can only access node lease with the same name as the requesting node")
            }
            _ => no("can only get, create, update, patch, or delete a node lease"),
        },
        ("storage.k8s.io", "csinodes") => match (verb, subresource) {
            ("get" | "create" | "update" | "patch" | "delete", "") if verb == "create" || name == node => {
                Ok(())
            }
            ("get" | "create" | "update" | "patch" | "delete", "") => {
                no("can only access CSINode with the same name as the requesting node")
            }
            ("get" | "create" | "update" | "patch" | "delete", _) => {
                no("cannot authorize CSINode subresources")
            }
            _ => no("can only get, create, update, patch, or delete a CSINode"),
        },
        ("", "nodes") => match (subresource, verb) {
            // Which one is admission's to see.
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") if name == node => Ok(()),
            ("", "get" | "list" | "watch") if name.is_empty() => {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                Err(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            _ => no(""),
        },
        ("", "pods") => match (subresource, verb) {
            ("", "get") => related(Kind::Pod),
            ("", "list" | "watch") if asked.on_node == node => Ok(()),
            ("", "list" | "watch") if !name.is_empty() => related(Kind::Pod),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(""),
        },
        _ => by_role(asked),
    }
}

fn by_role(asked: &Attributes<'_>) -> Result<(), String> {
    match RULES.iter().any(|rule| rule.allows(asked)) {
        true => Ok(()),
        false => Err(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::traits::Traits;
    use kubeapi::stored::{EventKind, Key, Stored};
    use serde_json::{Value, json};

    fn graph() -> Graph {
        let graph = Graph::default();
        let set = |resource: &str, namespace: &str, name: &str, value: Value| {
            let key = Key::new(resource, namespace, name);
            let traits = Traits::of(resource, &value);
            let stored = Stored { key, revision: 1, body: value.to_string().into() };
            graph.hear(&stored, EventKind::Added, &traits);
        };
        let pod = |node: &str, secret: &str| {
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "serviceAccountName": "robot",
                "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret}}}]}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}})
        };
        set("pods", "shop", "p", pod("n1", "mine"));
        set("pods", "shop", "q", pod("n2", "theirs"));
        set(
            "persistentvolumes",
            "",
            "disk",
            json!({"metadata": {"name": "disk"}, "spec": {
            "claimRef": {"namespace": "shop", "name": "data"},
            "csi": {"nodePublishSecretRef": {"namespace": "vault", "name": "key"}}}}),
        );
        graph
    }

    fn may(asked: &str) -> Result<(), String> {
        let words: Vec<&str> = asked.split(' ').collect();
        let (resource, subresource) = words[1].split_once('/').unwrap_or((words[1], ""));
        let (group, namespace) = match resource {
            "leases" => ("coordination.k8s.io", words[2]),
            "csinodes" => ("storage.k8s.io", ""),
            _ => ("", words[2].trim_matches('-')),
        };
        let what =
            What::Resource { group, resource, subresource, namespace, name: words[3].trim_matches('-') };
        let on_node = words.get(4).copied().unwrap_or_default();
        decide(&graph(), "n1", &Attributes { on_node, ..Attributes::new(words[0], what) })
    }

    #[test]
    fn a_node_reads_what_its_own_pods_refer_to_and_nothing_of_others() {
        for asked in [
            "get secrets shop mine",
            "watch secrets shop mine",
            "get persistentvolumeclaims shop data",
            "get persistentvolumes - disk",
            "get secrets vault key",
            "create serviceaccounts/token shop robot",
            "get pods shop p",
            "list pods - - n1",
            "get nodes - n1",
            "get leases kube-node-lease n1",
            "update csinodes - n1",
        ] {
            assert_eq!(may(asked), Ok(()), "{asked}");
        }
        for asked in [
            "get secrets shop theirs",
            "get secrets other mine",
            "list secrets shop -",
            "list secrets - -",
            "update secrets shop mine",
            "get persistentvolumes - other",
            "create serviceaccounts/token shop other",
            "create serviceaccounts shop robot",
            "get pods shop q",
            "list pods - -",
            "list pods - - n2",
            "get nodes - n2",
            "delete nodes - n1",
            "get leases kube-node-lease n2",
            "get leases shop n1",
            "list leases kube-node-lease -",
            "update csinodes - n2",
            "create pods/binding shop p",
        ] {
            assert!(may(asked).is_err(), "{asked}");
        }
    }
}
