//! The schemas and levels that every cluster has (`pkg/apis/flowcontrol/bootstrap/default.go`).

use serde_json::{Value, json};

const USERS: &[&str] = &["group system:unauthenticated", "group system:authenticated"];
const EVERYTHING: &[Rule] = &[("*", "*", "*", true)];

/// Verbs, group (`core` for the core group), resources; whether those of no namespace are meant as well.
type Rule = (&'static str, &'static str, &'static str, bool);

/// Name, level, precedence, what tells flows apart, subjects, rules, paths and their verb.
type Line = (
    &'static str,
    &'static str,
    i64,
    &'static str,
    &'static [&'static str],
    &'static [Rule],
    (&'static str, &'static str),
);

const ANY: (&str, &str) = ("*", "*");
const NONE: (&str, &str) = ("", "");

const SCHEMAS: &[Line] = &[
    ("exempt", "exempt", 1, "", &["group system:masters"], EVERYTHING, ANY),
    ("probes", "exempt", 2, "", USERS, &[], ("get", "/healthz /readyz /livez")),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        &["user system:kube-controller-manager", "user system:kube-scheduler", "serviceAccount kube-system"],
        &[("get create update", "coordination.k8s.io", "leases", false)],
        NONE,
    ),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        &["group system:nodes"],
        &[("*", "core", "nodes nodes/status", true), ("*", "coordination.k8s.io", "leases", false)],
        NONE,
    ),
    ("system-nodes", "system", 500, "ByUser", &["group system:nodes"], EVERYTHING, ANY),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &["user system:kube-controller-manager"],
        EVERYTHING,
        ANY,
    ),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", &["user system:kube-scheduler"], EVERYTHING, ANY),
    (
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        &["serviceAccount kube-system"],
        EVERYTHING,
        ANY,
    ),
    ("service-accounts", "workload-low", 9000, "ByUser", &["group system:serviceaccounts"], EVERYTHING, ANY),
    ("global-default", "global-default", 9900, "ByUser", USERS, EVERYTHING, ANY),
    ("catch-all", "catch-all", 10_000, "ByUser", USERS, EVERYTHING, ANY),
];

/// Name, shares, percent that may be lent, queues and hand size.
type Level = (&'static str, i64, i64, Option<(i64, i64)>);

const LEVELS: &[Level] = &[
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
    ("catch-all", 5, 0, None),
];

/// Names and specifications of the flow schemas.
pub fn schemas() -> Vec<(&'static str, Value)> {
    SCHEMAS.iter().map(|line| (line.0, schema(line))).collect()
}

/// Names and specifications of the priority levels.
pub fn levels() -> Vec<(&'static str, Value)> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = LEVELS.iter().map(|(name, shares, lendable, queues)| {
        let response = match queues {
            Some((queues, hand)) => {
                let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
                json!({"type": "Queue", "queuing": queuing})
            }
            None => json!({"type": "Reject"}),
        };
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        (*name, json!({"type": "Limited", "limited": limited}))
    });
    std::iter::once(("exempt", exempt)).chain(limited).collect()
}

fn schema((_, level, precedence, method, subjects, rules, (verb, paths)): &Line) -> Value {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut rule = json!({"subjects": subjects.iter().map(|one| subject(one)).collect::<Vec<_>>()});
    let resources = rules.iter().map(|(verbs, group, resources, cluster)| {
        let group = if *group == "core" { "" } else { group };
        let mut rule = json!({"verbs": words(verbs), "apiGroups": [group], "resources": words(resources), "namespaces": ["*"]});
        if *cluster {
            rule["clusterScope"] = json!(true);
        }
        rule
    });
    if !rules.is_empty() {
        rule["resourceRules"] = resources.collect();
    }
    if !verb.is_empty() {
        rule["nonResourceRules"] = json!([{"verbs": [verb], "nonResourceURLs": words(paths)}]);
    }
    let mut schema = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if !method.is_empty() {
        schema["distinguisherMethod"] = json!({"type": method});
    }
    schema
}

fn subject(line: &str) -> Value {
    let (kind, name) = line.split_once(' ').unwrap_or((line, ""));
    match kind {
        "user" => json!({"kind": "User", "user": {"name": name}}),
        "group" => json!({"kind": "Group", "group": {"name": name}}),
        _ => json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": name, "name": "*"}}),
    }
}
