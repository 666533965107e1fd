//! Who may do what.

use serde_json::{Value, json};

use super::*;

fn asked<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes::new(verb, What::Resource { group: "", resource, subresource, namespace, name })
}

fn binding(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": subjects})
}

fn reader() -> Value {
    json!({"rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]}]})
}

fn may(policy: &Policy, who: &str, groups: &[&str], asked: &Attributes<'_>) -> bool {
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    policy.decide(Subject { name: who, groups: &groups }, asked).is_some()
}

#[test]
fn a_role_counts_in_its_namespace_and_a_cluster_role_where_it_is_bound() {
    let mut policy = Policy::default();
    policy.set(Kind::Role, "a", "reader", Some(&reader()));
    policy.set(Kind::ClusterRole, "", "reader", Some(&reader()));
    let ann = json!([{"kind": "User", "name": "ann"}]);
    policy.set(Kind::RoleBinding, "a", "ann", Some(&binding("Role", "reader", ann)));
    let robot = json!([{"kind": "ServiceAccount", "name": "robot"}]);
    policy.set(Kind::RoleBinding, "b", "robot", Some(&binding("ClusterRole", "reader", robot)));
    let ops = json!([{"kind": "Group", "name": "ops"}]);
    policy.set(Kind::ClusterRoleBinding, "", "ops", Some(&binding("ClusterRole", "reader", ops)));
    let robot = "system:serviceaccount:b:robot";
    for (who, groups, namespace, wanted) in [
        ("ann", &[][..], "a", true),
        ("ann", &[], "b", false),
        ("ann", &[], "", false),
        (robot, &[], "b", true),
        (robot, &[], "", false),
        ("cy", &["ops"], "a", true),
        ("cy", &["ops"], "", true),
        ("cy", &["dev"], "a", false),
        ("ops", &[], "a", false),
    ] {
        let got = may(&policy, who, groups, &asked("list", "pods", namespace, ""));
        assert_eq!(got, wanted, "{who} {groups:?} in {namespace:?}");
    }
    assert!(!may(&policy, "ann", &[], &asked("delete", "pods", "a", "x")));
    policy.set(Kind::RoleBinding, "a", "ann", None);
    assert!(!may(&policy, "ann", &[], &asked("list", "pods", "a", "")));
    policy.set(Kind::ClusterRole, "", "reader", None);
    assert!(!may(&policy, "cy", &["ops"], &asked("list", "pods", "a", "")));
}

#[test]
fn a_binding_of_the_cluster_gives_no_role_of_a_namespace() {
    let mut policy = Policy::default();
    policy.set(Kind::Role, "a", "reader", Some(&reader()));
    let ann = json!([{"kind": "User", "name": "ann"}]);
    policy.set(Kind::ClusterRoleBinding, "", "x", Some(&binding("Role", "reader", ann)));
    assert!(!may(&policy, "ann", &[], &asked("list", "pods", "a", "")));
}

#[test]
fn the_reason_names_binding_role_and_subject() {
    let mut policy = Policy::default();
    policy.set(Kind::ClusterRole, "", "reader", Some(&reader()));
    let ann = json!([{"kind": "User", "name": "ann"}]);
    policy.set(Kind::RoleBinding, "a", "ann", Some(&binding("ClusterRole", "reader", ann)));
    let reason =
        policy.decide(Subject { name: "ann", groups: &[] }, &asked("get", "pods", "a", "x")).unwrap();
    assert_eq!(reason, "RBAC: allowed by RoleBinding \"ann/a\" of ClusterRole \"reader\" to User \"ann\"");
}

#[test]
fn rules_are_about_verbs_groups_resources_names_and_paths() {
    let rule = |value: Value| Rule::read(&value);
    let on = |resources: Value| rule(json!({"verbs": ["*"], "apiGroups": [""], "resources": resources}));
    for (resources, resource, wanted) in [
        (json!(["pods"]), "pods", true),
        (json!(["pods"]), "pods/log", false),
        (json!(["pods/log"]), "pods/log", true),
        (json!(["pods/log"]), "pods", false),
        (json!(["*"]), "pods/log", true),
        (json!(["*/log"]), "pods/log", true),
        (json!(["*/log"]), "pods", false),
        (json!(["pods/*"]), "pods/log", false),
    ] {
        assert_eq!(
            on(resources.clone()).allows(&asked("get", resource, "", "x")),
            wanted,
            "{resources} {resource}"
        );
    }
    let one = rule(
        json!({"verbs": ["get"], "apiGroups": ["", "apps"], "resources": ["secrets"], "resourceNames": ["a"]}),
    );
    assert!(one.allows(&asked("get", "secrets", "n", "a")));
    assert!(
        !one.allows(&asked("get", "secrets", "n", "b")) && !one.allows(&asked("get", "secrets", "n", ""))
    );
    let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]}));
    let path = |path| paths.allows(&Attributes::new("get", What::Path(path)));
    assert!(path("/metrics") && path("/logs/a/b") && !path("/metrics/x") && !path("/logs"));
    assert!(!paths.allows(&asked("get", "pods", "", "")));
}

#[test]
fn nobody_passes_on_more_than_he_has() {
    let rule = |value: Value| Rule::read(&value);
    let owned = [
        rule(json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/scale"]})),
        rule(
            json!({"verbs": ["update"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
        ),
        rule(json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]})),
    ];
    for (wanted, lacking) in [
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), 0),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["x"]}), 0),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["jobs/scale"]}), 0),
        (json!({"verbs": ["get", "watch"], "apiGroups": ["", "apps"], "resources": ["pods"]}), 3),
        (json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}), 1),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*"]}), 1),
        (
            json!({"verbs": ["update"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a"]}),
            0,
        ),
        (json!({"verbs": ["update"], "apiGroups": [""], "resources": ["secrets"]}), 1),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/x"]}), 0),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*", "*"]}), 1),
    ] {
        assert_eq!(rule(wanted.clone()).beyond(&owned).len(), lacking, "{wanted}");
    }
}

#[test]
fn roles_are_made_of_those_whose_labels_fit() {
    let part = |name: &str, label: &str, verb: &str| json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": [{"verbs": [verb]}]});
    let all = [part("b", "x", "get"), part("a", "x", "list"), part("c", "y", "watch"), part("d", "x", "get")];
    let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "true"}}]});
    let role = json!({"metadata": {"name": "sum"}, "aggregationRule": selectors});
    let wanted = vec![json!({"verbs": ["list"]}), json!({"verbs": ["get"]})];
    assert_eq!(aggregated(&role, &all), Some(wanted));
    assert_eq!(aggregated(&all[0], &all), None);
}

#[test]
fn roles_that_are_made_of_each_other_settle_on_what_is_beside_them() {
    let made_of = |name: &str, own: &str, of: &str, verb: &str| {
        let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {of: "true"}}]});
        json!({"metadata": {"name": name, "labels": {own: "true"}}, "aggregationRule": selectors, "rules": [{"verbs": [verb]}]})
    };
    let plain = json!({"metadata": {"name": "z", "labels": {"x": "true"}}, "rules": [{"verbs": ["get"]}]});
    let all = [
        made_of("a", "x", "y", "list"),
        made_of("b", "y", "z", "watch"),
        made_of("c", "z", "x", "patch"),
        plain,
    ];
    for role in &all[..3] {
        assert_eq!(aggregated(role, &all), Some(vec![json!({"verbs": ["get"]})]), "{role}");
    }
}

#[test]
fn the_default_roles_are_valid_and_viewers_read_no_secrets() {
    let (mut policy, mut roles) = (Policy::default(), Vec::new());
    for (plural, object) in defaults::objects() {
        let kind = Kind::of_resource(plural).unwrap();
        assert_eq!(problems(kind, &object), vec![], "{object}");
        if kind == Kind::ClusterRole {
            roles.push(object.clone());
        }
        policy.set(kind, "", crate::object::name(&object), Some(&object));
    }
    for mut role in roles.clone() {
        if let Some(rules) = aggregated(&role, &roles) {
            role["rules"] = json!(rules);
            policy.set(Kind::ClusterRole, "", crate::object::name(&role), Some(&role));
        }
    }
    for (name, role) in [("v", "view"), ("e", "edit"), ("a", "admin")] {
        let subject = json!([{"kind": "User", "name": name}]);
        policy.set(Kind::RoleBinding, "n", name, Some(&binding("ClusterRole", role, subject)));
    }
    let everyone = ["system:authenticated"];
    let can = |who: &str, verb, resource| may(&policy, who, &everyone, &asked(verb, resource, "n", "x"));
    assert!(can("v", "get", "pods") && !can("v", "get", "secrets") && !can("v", "update", "pods"));
    assert!(can("e", "get", "secrets") && can("e", "create", "pods/exec") && !can("e", "get", "nodes"));
    assert!(can("a", "get", "pods"));
    let roles = What::Resource { group: GROUP, resource: "roles", subresource: "", namespace: "n", name: "" };
    let create = Attributes::new("create", roles);
    assert!(may(&policy, "a", &everyone, &create) && !may(&policy, "e", &everyone, &create));
    let proxies = json!([{"kind": "User", "name": "p"}]);
    policy.set(
        Kind::ClusterRoleBinding,
        "",
        "p",
        Some(&binding("ClusterRole", "system:node-proxier", proxies)),
    );
    let ranges = What::Resource {
        group: "networking.k8s.io",
        resource: "servicecidrs",
        subresource: "",
        namespace: "",
        name: "",
    };
    assert!(may(&policy, "p", &everyone, &Attributes::new("watch", ranges)), "kube-proxy since 1.33");
    let path = |path| may(&policy, "x", &everyone, &Attributes::new("get", What::Path(path)));
    assert!(path("/apis/apps") && path("/openapi/v2") && !path("/metrics"));
}

#[test]
fn default_roles_get_what_they_lack_unless_their_owner_says_no() {
    let wanted = &defaults::objects()[0].1;
    let mut found = wanted.clone();
    found["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/x"]}]);
    let mended = defaults::mended(&found, wanted).unwrap();
    assert_eq!(rules(&mended).len(), 3);
    assert_eq!(defaults::mended(&mended, wanted), None);
    found["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    assert_eq!(defaults::mended(&found, wanted), None);
}

#[test]
fn roles_and_bindings_that_are_not_whole_are_refused() {
    let fields = |kind, value: Value| -> Vec<String> {
        problems(kind, &value).into_iter().map(|cause| cause.field).collect()
    };
    let rules = json!({"rules": [{}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
    assert_eq!(
        fields(Kind::Role, rules.clone()),
        ["rules[0].verbs", "rules[0].apiGroups", "rules[0].resources", "rules[1].nonResourceURLs"]
    );
    assert_eq!(fields(Kind::ClusterRole, rules).len(), 3);
    let subjects = json!([{"kind": "ServiceAccount", "name": "x"}, {"kind": "Robot", "name": "x"}, {"kind": "User", "apiGroup": GROUP}]);
    let wrong = binding("Role", "", subjects);
    assert_eq!(
        fields(Kind::ClusterRoleBinding, wrong),
        ["roleRef.kind", "roleRef.name", "subjects[0].namespace", "subjects[1].kind", "subjects[2].name"]
    );
    let old = binding("Role", "a", json!([]));
    assert_eq!(roles_changed(&old, &binding("Role", "b", json!([])))[0].field, "roleRef");
    assert_eq!(roles_changed(&old, &old), vec![]);
}
