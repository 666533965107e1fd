//! What CloudCore may do in the API: every verb it uses, and no other. Each rule says why.

use serde_json::{Value, json};

use crate::document::{Document, explained};
use crate::{NAME, NAMESPACE, Switch, Values, webhooks};

/// One rule of a role.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Why CloudCore needs it.
    pub why: &'static str,
    /// The API group; empty is the core group.
    pub group: &'static str,
    /// Resources and subresources.
    pub resources: &'static [&'static str],
    /// The objects it is about; empty: all.
    pub names: &'static [&'static str],
    /// What may be done to them.
    pub verbs: &'static [&'static str],
    /// The part of CloudCore that needs it.
    pub part: Part,
}

/// What a rule is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of CloudCore.
    All,
    /// `modules.cloudStream`.
    Streams,
    /// `modules.webhooks`.
    Webhooks,
    /// `modules.dynamicController.nodeIdentity`.
    NodeIdentity,
}

const fn rule(
    why: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Rule {
    Rule { why, group, resources, names: &[], verbs, part: Part::All }
}

const fn about(names: &'static [&'static str], rule: Rule) -> Rule {
    Rule { names, ..rule }
}

const fn for_streams(rule: Rule) -> Rule {
    Rule { part: Part::Streams, ..rule }
}

const fn for_webhooks(rule: Rule) -> Rule {
    Rule { part: Part::Webhooks, ..rule }
}

const fn for_node_identity(rule: Rule) -> Rule {
    Rule { part: Part::NodeIdentity, ..rule }
}

const DEVICES: &str = "devices.kubeedge.io";
const SYNCS: &str = "reliablesyncs.kubeedge.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";

/// In the whole cluster: edge nodes run pods of every namespace.
pub const CLUSTER: &[Rule] = &[
    rule(
        "Pods of edge nodes are sent to them. Nodes make and delete the mirrors of their static pods and delete pods that have ended; tolerations follow the autonomy of a node.",
        "",
        &["pods"],
        &["create", "delete", "get", "list", "patch", "watch"],
    ),
    rule("Nodes tell the state of their pods.", "", &["pods/status"], &["patch", "update"]),
    rule(
        "What pods of edge nodes refer to is sent to their nodes, and to no others.",
        "",
        &["configmaps", "secrets"],
        &["get", "list", "watch"],
    ),
    rule(
        "Edge nodes register, get labels, annotations and the taint of a lost link, and are watched.",
        "",
        &["nodes"],
        &["create", "get", "list", "patch", "watch"],
    ),
    rule("Nodes tell their state.", "", &["nodes/status"], &["patch", "update"]),
    rule(
        "Pods of edge nodes get tokens of their service accounts, bound to the pod.",
        "",
        &["serviceaccounts/token"],
        &["create"],
    ),
    rule("Events of nodes and of their pods.", "", &["events"], &["create", "get", "patch", "update"]),
    rule("Volumes of pods of edge nodes.", "", &["persistentvolumeclaims", "persistentvolumes"], &["get"]),
    rule(
        "The same: whether a volume is attached to the node.",
        "storage.k8s.io",
        &["volumeattachments"],
        &["get"],
    ),
    rule("Which handler of its runtime a pod asks for.", "node.k8s.io", &["runtimeclasses"], &["get"]),
    rule(
        "Nodes ask for certificates to serve with, under their own name.",
        CERTIFICATES,
        &["certificatesigningrequests"],
        &["create", "get", "list", "watch"],
    ),
    rule(
        "Requests that name nothing but the node's own names and addresses are approved.",
        CERTIFICATES,
        &["certificatesigningrequests/approval"],
        &["update"],
    ),
    about(
        &["kubernetes.io/kubelet-serving"],
        rule("Of this signer and of no other.", CERTIFICATES, &["signers"], &["approve"]),
    ),
    rule(
        "By which name CloudCore made requests of nodes itself.",
        "authentication.k8s.io",
        &["selfsubjectreviews"],
        &["create"],
    ),
    for_streams(rule(
        "Whose token it is that asks for logs or a command.",
        "authentication.k8s.io",
        &["tokenreviews"],
        &["create"],
    )),
    for_streams(rule(
        "Whether who asks may do that on the node.",
        "authorization.k8s.io",
        &["subjectaccessreviews"],
        &["create"],
    )),
    rule(
        "Devices and their models are sent to their node.",
        DEVICES,
        &["devicemodels", "devices"],
        &["get", "list", "watch"],
    ),
    rule(
        "What devices report is written here.",
        DEVICES,
        &["devicestatuses"],
        &["create", "get", "list", "patch"],
    ),
    rule(
        "What edges in KubeEdge's dialect have acknowledged.",
        SYNCS,
        &["clusterobjectsyncs", "objectsyncs"],
        &["create", "delete", "list", "watch"],
    ),
    rule(
        "The same: the version they have.",
        SYNCS,
        &["clusterobjectsyncs/status", "objectsyncs/status"],
        &["patch"],
    ),
    about(
        &[
            "clusterobjectsyncs.reliablesyncs.kubeedge.io",
            "devicemodels.devices.kubeedge.io",
            "devices.devices.kubeedge.io",
            "devicestatuses.devices.kubeedge.io",
            "objectsyncs.reliablesyncs.kubeedge.io",
        ],
        rule(
            "Whether its own definitions are there and new enough; who installs CloudCore applies them.",
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &["get"],
        ),
    ),
    for_webhooks(about(
        &[webhooks::NAME],
        rule(
            "The configurations of its own admission webhooks carry the CA of today; who installs CloudCore makes them, empty.",
            webhooks::GROUP,
            &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            &["get", "update"],
        ),
    )),
    for_node_identity(rule(
        "Requests of a node itself are carried out as that node, with its rights; RBAC cannot say that it is a node's name.",
        "",
        &["users"],
        &["impersonate"],
    )),
    for_node_identity(about(
        &["system:nodes"],
        rule("The same: its group.", "", &["groups"], &["impersonate"]),
    )),
    about(&[NAMESPACE], rule("Whether its own namespace is there.", "", &["namespaces"], &["get"])),
];

/// In the namespace of CloudCore.
pub const OWN: &[Rule] = &[
    rule(
        "The CA of the edges, the server certificate and the join token are made at the first start.",
        "",
        &["secrets"],
        &["create"],
    ),
    about(
        &["casecret", "cloudcoresecret", "tokensecret"],
        rule("They are renewed.", "", &["secrets"], &["update"]),
    ),
    rule(
        "Which join tokens have been used (used-token-*), until they have ended; the list of nodes that are refused.",
        "",
        &["configmaps"],
        &["create", "delete"],
    ),
    about(
        &["refused-nodes"],
        rule("Nodes whose object was deleted are put on the list.", "", &["configmaps"], &["patch"]),
    ),
    rule(
        "Which replica does what one does for all, and where replicas reach each other.",
        COORDINATION,
        &["leases"],
        &["create", "delete", "get", "list", "update"],
    ),
];

/// In the namespace of the leases of nodes.
pub const LEASES: &[Rule] = &[rule(
    "Signs of life of edge nodes; which of them nobody renews.",
    COORDINATION,
    &["leases"],
    &["create", "get", "list", "update"],
)];

const NODE_LEASES: &str = "kube-node-lease";

pub(crate) fn documents(values: &Values) -> Vec<Document> {
    vec![
        Document::new("clusterrole", role(values, "ClusterRole", None, CLUSTER)),
        Document::new("clusterrolebinding", binding(values, "ClusterRoleBinding", "ClusterRole", None)),
        Document::new("role", role(values, "Role", Some(NAMESPACE), OWN)),
        Document::new("rolebinding", binding(values, "RoleBinding", "Role", Some(NAMESPACE))),
        Document::new("role-node-lease", role(values, "Role", Some(NODE_LEASES), LEASES)),
        Document::new("rolebinding-node-lease", binding(values, "RoleBinding", "Role", Some(NODE_LEASES))),
    ]
}

fn role(values: &Values, kind: &str, namespace: Option<&str>, rules: &[Rule]) -> Value {
    let rules = rules.iter().filter_map(|rule| {
        let mut told = json!({"apiGroups": [rule.group], "resources": rule.resources, "verbs": rule.verbs});
        if !rule.names.is_empty() {
            told["resourceNames"] = json!(rule.names);
        }
        let when = match rule.part {
            Part::All => &Switch::On,
            Part::Streams => &values.streams,
            Part::Webhooks => &values.webhooks,
            Part::NodeIdentity => &values.node_identity,
        };
        explained(rule.why, when, told)
    });
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": values.metadata(NAME, namespace),
        "rules": rules.collect::<Value>(),
    })
}

fn binding(values: &Values, kind: &str, role: &str, namespace: Option<&str>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": values.metadata(NAME, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    })
}
