//! The built-in resources: one line each.

use super::Resource;

const NAMESPACED: bool = true;
const CLUSTER: bool = false;
/// Has a status subresource.
const STATUS: bool = true;
const PLAIN: bool = false;

/// (apiVersion, plural, kind, scope, status, short names)
type Line = (&'static str, &'static str, &'static str, bool, bool, &'static [&'static str]);

const TABLE: &[Line] = &[
    ("v1", "namespaces", "Namespace", CLUSTER, STATUS, &["ns"]),
    ("v1", "nodes", "Node", CLUSTER, STATUS, &["no"]),
    ("v1", "pods", "Pod", NAMESPACED, STATUS, &["po"]),
    ("v1", "configmaps", "ConfigMap", NAMESPACED, PLAIN, &["cm"]),
    ("v1", "secrets", "Secret", NAMESPACED, PLAIN, &[]),
    ("v1", "serviceaccounts", "ServiceAccount", NAMESPACED, PLAIN, &["sa"]),
    ("v1", "events", "Event", NAMESPACED, PLAIN, &["ev"]),
    ("v1", "services", "Service", NAMESPACED, STATUS, &["svc"]),
    ("v1", "endpoints", "Endpoints", NAMESPACED, PLAIN, &["ep"]),
    ("v1", "persistentvolumes", "PersistentVolume", CLUSTER, STATUS, &["pv"]),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", NAMESPACED, STATUS, &["pvc"]),
    ("v1", "podtemplates", "PodTemplate", NAMESPACED, PLAIN, &[]),
    ("v1", "replicationcontrollers", "ReplicationController", NAMESPACED, STATUS, &["rc"]),
    ("v1", "resourcequotas", "ResourceQuota", NAMESPACED, STATUS, &["quota"]),
    ("v1", "limitranges", "LimitRange", NAMESPACED, PLAIN, &["limits"]),
    ("apps/v1", "deployments", "Deployment", NAMESPACED, STATUS, &["deploy"]),
    ("apps/v1", "daemonsets", "DaemonSet", NAMESPACED, STATUS, &["ds"]),
    ("apps/v1", "replicasets", "ReplicaSet", NAMESPACED, STATUS, &["rs"]),
    ("apps/v1", "statefulsets", "StatefulSet", NAMESPACED, STATUS, &["sts"]),
    ("apps/v1", "controllerrevisions", "ControllerRevision", NAMESPACED, PLAIN, &[]),
    ("batch/v1", "jobs", "Job", NAMESPACED, STATUS, &[]),
    ("batch/v1", "cronjobs", "CronJob", NAMESPACED, STATUS, &["cj"]),
    ("coordination.k8s.io/v1", "leases", "Lease", NAMESPACED, PLAIN, &[]),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", NAMESPACED, PLAIN, &[]),
    ("events.k8s.io/v1", "events", "Event", NAMESPACED, PLAIN, &["ev"]),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", NAMESPACED, PLAIN, &["netpol"]),
    ("networking.k8s.io/v1", "ingresses", "Ingress", NAMESPACED, STATUS, &["ing"]),
    ("networking.k8s.io/v1", "ingressclasses", "IngressClass", CLUSTER, PLAIN, &[]),
    ("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", CLUSTER, PLAIN, &[]),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", NAMESPACED, STATUS, &["pdb"]),
    ("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", CLUSTER, PLAIN, &["pc"]),
    (
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        CLUSTER,
        STATUS,
        &["csr"],
    ),
    ("storage.k8s.io/v1", "storageclasses", "StorageClass", CLUSTER, PLAIN, &["sc"]),
    ("storage.k8s.io/v1", "csidrivers", "CSIDriver", CLUSTER, PLAIN, &[]),
    ("storage.k8s.io/v1", "csinodes", "CSINode", CLUSTER, PLAIN, &[]),
    ("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", CLUSTER, STATUS, &[]),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", NAMESPACED, PLAIN, &[]),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", NAMESPACED, PLAIN, &[]),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", CLUSTER, PLAIN, &[]),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", CLUSTER, PLAIN, &[]),
    (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        CLUSTER,
        STATUS,
        &["crd", "crds"],
    ),
];

/// Resources that are only ever created, never stored: (apiVersion, plural, kind).
pub(crate) const REVIEWS: &[(&str, &str, &str)] = &[
    ("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview"),
    ("authentication.k8s.io/v1", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview"),
];

pub(super) fn resources() -> Vec<Resource> {
    let resource = |(api_version, plural, kind, namespaced, status, short): &Line| {
        let (group, version) = split(api_version);
        Resource {
            group: group.to_owned(),
            plural: (*plural).to_owned(),
            singular: kind.to_lowercase(),
            kind: (*kind).to_owned(),
            list_kind: format!("{kind}List"),
            short_names: short.iter().map(|name| (*name).to_owned()).collect(),
            categories: category(plural),
            namespaced: *namespaced,
            versions: vec![super::Version { status: *status, ..super::Version::named(version) }],
            custom: false,
        }
    };
    TABLE.iter().map(resource).collect()
}

/// (group, version) of an apiVersion.
pub(crate) fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn category(plural: &str) -> Vec<String> {
    let all =
        ["pods", "services", "deployments", "daemonsets", "replicasets", "statefulsets", "jobs", "cronjobs"];
    if all.contains(&plural) { vec!["all".to_owned()] } else { vec![] }
}
