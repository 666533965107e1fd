//! The pods: what runs, with which rights on its machine, where, and how many may be away.

use serde_json::{Value, json};

use crate::document::{Document, part, put};
use crate::network::{self, MONITOR};
use crate::values::selector;
use crate::{NAME, NAMESPACE, Values};

/// A user without a name: not root, and nobody's files.
const USER: u32 = 65532;
/// Rooms have five seconds to end, and edges that were told to leave need none.
const GRACE_SECONDS: u32 = 30;
/// Folder of cloudcore.yaml.
const CONFIG: &str = "/etc/kubeedge/config";

pub(crate) fn documents(values: &Values) -> Vec<Document> {
    vec![
        Document::new("deployment", deployment(values)),
        Document::new("poddisruptionbudget", budget(values)).when(&values.budget),
    ]
}

fn deployment(values: &Values) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": values.metadata(NAME, Some(NAMESPACE)),
        "spec": {
            "replicas": values.replicas,
            "selector": {"matchLabels": selector()},
            // A new pod serves before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                // A new chart alone is no reason to replace pods: its labels are not on them.
                "metadata": {"labels": selector(), "annotations": values.annotations},
                "spec": pod(values),
            },
        },
    })
}

fn pod(values: &Values) -> Value {
    let mut pod = json!({
        "serviceAccountName": NAME,
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "imagePullSecrets": values.pull_secrets,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": values.node_selector,
        "tolerations": values.tolerations,
        "affinity": values.affinity,
        "topologySpreadConstraints": [
            spread("kubernetes.io/hostname"),
            spread("topology.kubernetes.io/zone"),
        ],
        "containers": [container(values)],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    });
    let (switch, class) = &values.priority_class;
    put(&mut pod, "priorityClassName", switch, class.clone());
    pod
}

fn spread(over: &str) -> Value {
    json!({
        "maxSkew": 1,
        "topologyKey": over,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector()},
    })
}

fn container(values: &Values) -> Value {
    let ports = network::ports(values);
    let monitor = json!({"name": "monitor", "containerPort": MONITOR, "protocol": "TCP"});
    let ports = ports.iter().filter_map(|port| {
        let told = json!({"name": port.name, "containerPort": port.number, "protocol": port.protocol});
        part(port.when, told)
    });
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": "monitor"},
            "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5,
        })
    };
    json!({
        "name": NAME,
        "image": values.image,
        "imagePullPolicy": values.pull_policy,
        "args": ["--config", format!("{CONFIG}/cloudcore.yaml")],
        "env": [
            {"name": "CAUSEWAY_LOG", "value": values.log},
            // Where other replicas reach this one (modules.cloudStream.ownAddress).
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": ports.chain([monitor]).collect::<Value>(),
        // Answers while the API server is waited for, too.
        "livenessProbe": probe("/healthz", 10, 3),
        "readinessProbe": probe("/readyz", 5, 2),
        "resources": values.resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "config", "mountPath": CONFIG, "readOnly": true}],
    })
}

fn budget(values: &Values) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": values.metadata(NAME, Some(NAMESPACE)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector()}},
    })
}
