//! The roles and bindings that every cluster has (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`). Left out: what is
//! about the API group `extensions`, which no server has any more. The roles of controllers are in `defaults/controllers.rs`.

mod controllers;

use serde_json::{Value, json};

use super::{GROUP, Rule};
use crate::object::{as_map, list, set_default};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const BOTH: &str = "create delete deletecollection get list patch update watch";

/// Verbs, groups, resources, each parted by blanks; `core` is the core group. With `@`: names of objects after it.
type Rules = &'static [(&'static str, &'static str, &'static str)];

/// A role: name, the roles that it is a part of, rules.
const ROLES: &[(&str, &str, Rules)] = &[
    ("cluster-admin", "", &[("*", "*", "*"), ("*", "", "*")]),
    (
        "system:discovery",
        "",
        &[(
            "get",
            "",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    ("system:public-info-viewer", "", &[("get", "", "/healthz /livez /readyz /version /version/")]),
    (
        "system:monitoring",
        "",
        &[("get", "", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")],
    ),
    (
        "system:service-account-issuer-discovery",
        "",
        &[("get", "", "/.well-known/openid-configuration /openid/v1/jwks")],
    ),
    (
        "system:basic-user",
        "",
        &[
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            ("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    (
        "system:auth-delegator",
        "",
        &[
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    (
        "system:aggregate-to-admin",
        "admin",
        &[
            ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            (BOTH, "rbac.authorization.k8s.io", "rolebindings roles"),
        ],
    ),
    (
        "system:aggregate-to-edit",
        "edit",
        &[
            (READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
            ("impersonate", "core", "serviceaccounts"),
            (WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
            ("create", "core", "pods/eviction serviceaccounts/token"),
            (
                WRITE,
                "core",
                "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
            ),
            (
                WRITE,
                "apps",
                "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
            ),
            (WRITE, "autoscaling", "horizontalpodautoscalers"),
            (WRITE, "batch", "cronjobs jobs"),
            (WRITE, "policy", "poddisruptionbudgets"),
            (WRITE, "networking.k8s.io", "ingresses networkpolicies"),
            (WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
            (BOTH, "coordination.k8s.io", "leases"),
        ],
    ),
    (
        "system:aggregate-to-view",
        "view",
        &[
            (
                READ,
                "core",
                "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
            ),
            (
                READ,
                "core",
                "bindings events limitranges namespaces namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
            ),
            (READ, "discovery.k8s.io", "endpointslices"),
            (
                READ,
                "apps",
                "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
            ),
            (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
            (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
            (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
            (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
            (READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
        ],
    ),
    (
        "system:kubelet-api-admin",
        "",
        &[
            ("get list watch proxy", "core", "nodes"),
            ("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
        ],
    ),
    (
        "system:node-bootstrapper",
        "",
        &[("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    (
        "system:node-proxier",
        "",
        &[
            ("list watch", "core", "endpoints services"),
            (READ, "core", "nodes"),
            ("create patch update", "core events.k8s.io", "events"),
            ("list watch", "networking.k8s.io", "servicecidrs"),
            ("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    (
        "system:node-problem-detector",
        "",
        &[
            ("get", "core", "nodes"),
            ("patch", "core", "nodes/status"),
            ("create patch update", "core events.k8s.io", "events"),
        ],
    ),
    ("system:node", "", NODE),
    ("system:kube-dns", "", &[("list watch", "core", "endpoints services")]),
    (
        "system:persistent-volume-provisioner",
        "",
        &[
            ("create delete get list watch", "core", "persistentvolumes"),
            ("get list update watch", "core", "persistentvolumeclaims"),
            (READ, "storage.k8s.io", "storageclasses"),
            ("watch", "core", "events"),
            ("create patch update", "core events.k8s.io", "events"),
        ],
    ),
    (
        "system:kube-scheduler",
        "",
        &[
            ("create patch update", "core events.k8s.io", "events"),
            ("create", "coordination.k8s.io", "leases"),
            ("get update", "coordination.k8s.io", "leases @kube-scheduler"),
            (
                READ,
                "core",
                "namespaces nodes persistentvolumeclaims persistentvolumes replicationcontrollers services",
            ),
            ("delete get list watch", "core", "pods"),
            ("create", "core", "bindings pods/binding"),
            ("patch update", "core", "pods/status"),
            (READ, "apps", "replicasets statefulsets"),
            (READ, "policy", "poddisruptionbudgets"),
            (
                READ,
                "storage.k8s.io",
                "csidrivers csinodes csistoragecapacities storageclasses volumeattachments",
            ),
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    (
        "system:volume-scheduler",
        "",
        &[
            ("get list patch update watch", "core", "persistentvolumeclaims persistentvolumes"),
            (READ, "storage.k8s.io", "storageclasses"),
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "",
        &[("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "",
        &[("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        "",
        &[("approve", "certificates.k8s.io", "signers @kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        "",
        &[("approve", "certificates.k8s.io", "signers @kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        "",
        &[("approve", "certificates.k8s.io", "signers @kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        "",
        &[("approve", "certificates.k8s.io", "signers @kubernetes.io/legacy-unknown")],
    ),
];

/// What nodes do, as far as it is about themselves and their pods: who says so is the server, not a binding.
const NODE: Rules = &[
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    (READ, "core", "services"),
    ("create get list watch", "core", "nodes"),
    ("patch update", "core", "nodes/status"),
    ("patch update", "core", "nodes"),
    ("create patch update", "core events.k8s.io", "events"),
    (READ, "core", "pods"),
    ("create delete", "core", "pods"),
    ("patch update", "core", "pods/status"),
    ("create", "core", "pods/eviction"),
    (READ, "core", "configmaps secrets"),
    ("get", "core", "persistentvolumeclaims persistentvolumes"),
    ("get", "core", "endpoints"),
    ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ("create delete get patch update", "coordination.k8s.io", "leases"),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("create", "core", "serviceaccounts/token"),
    ("get patch update", "core", "persistentvolumeclaims/status"),
    (READ, "storage.k8s.io", "csidrivers"),
    ("create delete get patch update", "storage.k8s.io", "csinodes"),
    (READ, "node.k8s.io", "runtimeclasses"),
    ("get", "resource.k8s.io", "resourceclaims"),
    ("deletecollection", "resource.k8s.io", "resourceslices"),
    ("get", "core", "serviceaccounts"),
];

/// The rules of `system:node`.
pub fn node_rules() -> Vec<Rule> {
    NODE.iter().map(rule).collect()
}

/// Roles made of others: name, of whom it is a part itself.
const COMPOSED: &[(&str, &str)] = &[("admin", ""), ("edit", "admin"), ("view", "edit")];

/// Role, kind of the subject, its names.
const BINDINGS: &[(&str, &str, &[&str])] = &[
    ("cluster-admin", "Group", &["system:masters"]),
    ("system:discovery", "Group", &["system:authenticated"]),
    ("system:basic-user", "Group", &["system:authenticated"]),
    ("system:public-info-viewer", "Group", &["system:authenticated", "system:unauthenticated"]),
    ("system:monitoring", "Group", &["system:monitoring"]),
    ("system:service-account-issuer-discovery", "Group", &["system:serviceaccounts"]),
    ("system:node-proxier", "User", &["system:kube-proxy"]),
    ("system:kube-scheduler", "User", &["system:kube-scheduler"]),
    ("system:volume-scheduler", "User", &["system:kube-scheduler"]),
    // Nobody: nodes have their rights of the server.
    ("system:node", "Group", &[]),
];

/// `true` there keeps an object in step with the defaults.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// All of them: plural and object.
pub fn objects() -> Vec<(&'static str, Value)> {
    let roles = ROLES.iter().map(|(name, part_of, rules)| ("clusterroles", role(name, part_of, rules)));
    let composed = COMPOSED.iter().map(|(name, part_of)| {
        let labels = json!({ label(name): "true" });
        let rule = json!({ "clusterRoleSelectors": [{ "matchLabels": labels }] });
        let role = json!({ "metadata": metadata(name, part_of), "aggregationRule": rule, "rules": [] });
        ("clusterroles", role)
    });
    let bindings = BINDINGS.iter().map(|(role, kind, names)| {
        let subjects: Vec<Value> =
            names.iter().map(|name| json!({ "apiGroup": GROUP, "kind": kind, "name": name })).collect();
        let reference = json!({ "apiGroup": GROUP, "kind": "ClusterRole", "name": role });
        let mut binding = json!({ "metadata": metadata(role, ""), "roleRef": reference });
        if !subjects.is_empty() {
            binding["subjects"] = json!(subjects);
        }
        ("clusterrolebindings", binding)
    });
    roles.chain(composed).chain(bindings).chain(controllers::objects()).collect()
}

/// What `found` lacks of the default object `wanted` of its name, added; `None` if that is nothing, or if its owner wants
/// it left alone.
pub fn mended(found: &Value, wanted: &Value) -> Option<Value> {
    if found["metadata"]["annotations"][AUTOUPDATE] != "true" {
        return None;
    }
    let mut mended = found.clone();
    if wanted.get("aggregationRule").is_some() {
        mended["aggregationRule"] = wanted["aggregationRule"].clone();
    } else if wanted.get("subjects").is_some() {
        let there = list(found, "/subjects");
        let lacking = list(wanted, "/subjects").iter().filter(|subject| !there.contains(subject));
        append(&mut mended, "subjects", lacking.cloned());
    } else {
        let own = super::rules(found);
        let lacking = super::rules(wanted).into_iter().flat_map(|rule| rule.beyond(&own));
        append(&mut mended, "rules", lacking.map(|rule| rule.value()));
    }
    let labels = wanted["metadata"]["labels"].as_object().into_iter().flatten();
    for (name, value) in labels {
        mended["metadata"]["labels"][name] = value.clone();
    }
    (mended != *found).then_some(mended)
}

fn role(name: &str, part_of: &str, rules: Rules) -> Value {
    let rules: Vec<Value> = rules.iter().map(|rule| self::rule(rule).value()).collect();
    json!({ "metadata": metadata(name, part_of), "rules": rules })
}

fn append(object: &mut Value, field: &str, more: impl Iterator<Item = Value>) {
    set_default(as_map(object), field, json!([]));
    if let Some(list) = object[field].as_array_mut() {
        list.extend(more);
    }
}

fn label(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

fn metadata(name: &str, part_of: &str) -> Value {
    let mut labels = json!({ "kubernetes.io/bootstrapping": "rbac-defaults" });
    if !part_of.is_empty() {
        labels[label(part_of)] = json!("true");
    }
    json!({ "name": name, "labels": labels, "annotations": { AUTOUPDATE: "true" } })
}

fn rule((verbs, groups, things): &(&str, &str, &str)) -> Rule {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let verbs = words(verbs);
    if groups.is_empty() {
        return Rule { verbs, paths: words(things), ..Rule::default() };
    }
    let groups = words(groups).into_iter().map(|group| if group == "core" { String::new() } else { group });
    let (names, resources): (Vec<_>, Vec<_>) =
        words(things).into_iter().partition(|word| word.starts_with('@'));
    let names = names.iter().map(|name| name.trim_start_matches('@').to_owned()).collect();
    Rule { verbs, groups: groups.collect(), resources, names, ..Rule::default() }
}
