//! What kube-controller-manager and its controllers may do (`bootstrappolicy/controller_policy.go`): those that this project has.

use serde_json::{Value, json};

use super::{GROUP, READ, Rules, metadata, role};

const MANAGER: &str = "system:kube-controller-manager";
const EVENTS: (&str, &str, &str) = ("create patch update", "core events.k8s.io", "events");

/// The controller's service account in `kube-system`, and its rules.
const CONTROLLERS: &[(&str, Rules)] = &[
    (
        "certificate-controller",
        &[
            ("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
            (
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            ("approve", "certificates.k8s.io", "signers @kubernetes.io/kube-apiserver-client-kubelet"),
            (
                "sign",
                "certificates.k8s.io",
                "signers @kubernetes.io/kube-apiserver-client @kubernetes.io/kube-apiserver-client-kubelet @kubernetes.io/kubelet-serving @kubernetes.io/legacy-unknown",
            ),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ],
    ),
    (
        "pvc-protection-controller",
        &[
            ("get list update watch", "core", "persistentvolumeclaims"),
            ("update", "core", "persistentvolumeclaims/status"),
            (READ, "core", "pods"),
            EVENTS,
        ],
    ),
    ("pv-protection-controller", &[("get list update watch", "core", "persistentvolumes"), EVENTS]),
    (
        "replicaset-controller",
        &[
            ("get list update watch", "apps", "replicasets"),
            ("update", "apps", "replicasets/finalizers replicasets/status"),
            ("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            ("get list update watch", "core", "replicationcontrollers"),
            ("update", "core", "replicationcontrollers/finalizers replicationcontrollers/status"),
            ("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            ("get list update watch patch", "apps", "deployments"),
            ("update", "apps", "deployments/finalizers deployments/status"),
            ("create delete get list patch update watch", "apps", "replicasets"),
            ("get list update watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            ("get list watch", "apps", "daemonsets"),
            ("update", "apps", "daemonsets/finalizers daemonsets/status"),
            ("list watch", "core", "nodes"),
            ("create delete list patch watch", "core", "pods"),
            ("create", "core", "pods/binding"),
            ("create delete get list patch update watch", "apps", "controllerrevisions"),
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            ("list watch", "core", "pods"),
            ("get list watch", "apps", "statefulsets"),
            ("update", "apps", "statefulsets/finalizers statefulsets/status"),
            ("create delete get patch update", "core", "pods"),
            ("create delete get list patch update watch", "apps", "controllerrevisions"),
            ("create delete get list update watch patch", "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            ("get list update watch patch", "batch", "jobs"),
            ("update", "batch", "jobs/finalizers jobs/status"),
            ("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "cronjob-controller",
        &[
            ("get list update watch", "batch", "cronjobs"),
            ("create delete get list patch update watch", "batch", "jobs"),
            ("update", "batch", "cronjobs/finalizers cronjobs/status"),
            ("delete list", "core", "pods"),
            EVENTS,
        ],
    ),
    ("ttl-after-finished-controller", &[("delete get list watch", "batch", "jobs"), EVENTS]),
    (
        "endpoint-controller",
        &[
            (READ, "core", "pods services"),
            ("create delete get list update watch", "core", "endpoints"),
            ("create", "core", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            (READ, "core", "nodes pods services"),
            ("update", "core", "services/finalizers"),
            ("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            ("create", "discovery.k8s.io", "endpointslices/restricted"),
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            (READ, "core", "endpoints services"),
            ("update", "core", "endpoints/finalizers services/finalizers"),
            ("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            ("create", "discovery.k8s.io", "endpointslices/restricted"),
            EVENTS,
        ],
    ),
    (
        "node-controller",
        &[
            ("delete get list patch update watch", "core", "nodes"),
            ("patch update", "core", "nodes/status"),
            ("patch update", "core", "pods/status"),
            ("delete get list watch", "core", "pods"),
            (READ, "coordination.k8s.io", "leases"),
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            ("create delete get list update watch", "core", "persistentvolumes"),
            ("update", "core", "persistentvolumes/status"),
            ("get list update watch", "core", "persistentvolumeclaims"),
            ("update", "core", "persistentvolumeclaims/status"),
            ("create delete get list watch", "core", "pods"),
            (READ, "storage.k8s.io", "storageclasses"),
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            (READ, "apps", "deployments replicasets statefulsets"),
            (READ, "core", "replicationcontrollers"),
            (READ, "policy", "poddisruptionbudgets"),
            ("update", "policy", "poddisruptionbudgets/status"),
            ("patch update", "core", "pods/status"),
            (READ, "core", "pods"),
            EVENTS,
        ],
    ),
];

/// Roles and bindings: plural and object.
pub(super) fn objects() -> Vec<(&'static str, Value)> {
    let manager: Rules = &[
        EVENTS,
        ("create", "coordination.k8s.io", "leases"),
        ("get update", "coordination.k8s.io", "leases @kube-controller-manager"),
        ("get", "core", "configmaps namespaces secrets serviceaccounts"),
        ("create", "core", "secrets serviceaccounts serviceaccounts/token"),
        ("delete", "core", "secrets"),
        ("update", "core", "secrets serviceaccounts"),
        ("list watch", "*", "*"),
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
    ];
    let mut all = vec![
        ("clusterroles", role(MANAGER, "", manager)),
        (
            "clusterrolebindings",
            binding(MANAGER, &json!({"apiGroup": GROUP, "kind": "User", "name": MANAGER})),
        ),
    ];
    for (account, rules) in CONTROLLERS {
        let name = format!("system:controller:{account}");
        let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": "kube-system"});
        all.push(("clusterroles", role(&name, "", rules)));
        all.push(("clusterrolebindings", binding(&name, &subject)));
    }
    all
}

fn binding(name: &str, subject: &Value) -> Value {
    let reference = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
    json!({"metadata": metadata(name, ""), "roleRef": reference, "subjects": [subject]})
}
