use apimachinery::kinds::split_api_version;
use serde_json::{Value, json};

use super::*;
use crate::registry::Registry;

fn printer(api_version: &str, plural: &str) -> Printer {
    let (group, version) = split_api_version(api_version);
    Printer::of(&Registry::new().find(group, version, plural).unwrap())
}

#[test]
fn built_in_kinds_have_the_columns_of_kubernetes() {
    let lines = include_str!("columns.txt").lines().filter(|line| !line.starts_with('#'));
    let mut kinds = 0;
    for line in lines {
        let (kind, wanted) = line.split_once(": ").unwrap();
        let (api_version, plural) = kind.split_once(' ').unwrap();
        let columns = printer(api_version, plural).columns();
        let names = columns.as_array().unwrap().iter().map(|column| match column["priority"].as_i64() {
            Some(0) => column["name"].as_str().unwrap().to_owned(),
            _ => format!("({})", column["name"].as_str().unwrap()),
        });
        assert_eq!(names.collect::<Vec<_>>().join(", "), wanted, "{kind}");
        kinds += 1;
    }
    assert!(kinds >= 45, "{kinds}");
}

/// The row of an object; every row has a cell for each column.
fn row(api_version: &str, plural: &str, object: Value) -> Value {
    let printer = printer(api_version, plural);
    let cells = printer.cells(&object, 1_767_225_600);
    assert_eq!(cells.len(), printer.columns().as_array().unwrap().len(), "{plural}");
    json!(cells)
}

/// Each was seen at kube-apiserver 1.36.
#[test]
fn rows_tell_what_kubernetes_tells() {
    let made = "2025-12-31T00:00:00Z";
    let with = |more: Value| {
        let mut object = json!({"metadata": {"name": "a", "creationTimestamp": made}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let pods = |labels: &str| {
        json!({"metadata": {"labels": {"a": labels}}, "spec": {"nodeSelector": {"b": "c"}, "containers": [
        {"name": "x", "image": "i"}, {"name": "y", "image": "j"}]}})
    };
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
        {"key": "z", "operator": "In", "values": ["y", "x"]}, {"key": "e", "operator": "Exists"},
        {"key": "n", "operator": "DoesNotExist"}, {"key": "m", "operator": "NotIn", "values": ["q"]}]});
    let spec = json!({"replicas": 0, "selector": selector, "template": pods("b")});
    assert_eq!(
        row("apps/v1", "deployments", with(json!({ "spec": spec }))),
        json!(["a", "0/0", 0, 0, "24h", "x,y", "i,j", "a=b,e,m notin (q),!n,z in (x,y)"])
    );
    assert_eq!(
        row(
            "apps/v1",
            "daemonsets",
            with(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pods("b")}}))
        ),
        json!(["a", 0, 0, 0, 0, 0, "b=c", "24h", "x,y", "i,j", "a=b"])
    );
    assert_eq!(
        row(
            "v1",
            "resourcequotas",
            with(json!({"status": {
            "hard": {"count/jobs.batch": "5", "limits.memory": "1Gi", "pods": "10"}, "used": {"pods": "3"}}}))
        ),
        json!(["a", "count/jobs.batch: 0/5, pods: 3/10", "limits.memory: 0/1Gi", "24h"])
    );
    let resource =
        |name: &str, target: Value| json!({"type": "Resource", "resource": {"name": name, "target": target}});
    let metrics = json!([resource("cpu", json!({"averageUtilization": 80})), resource("memory", json!({"averageValue": "1Gi"})),
        {"type": "Pods", "pods": {"target": {"averageValue": "5"}}}]);
    let scaled =
        json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "metrics": metrics});
    assert_eq!(
        row("autoscaling/v2", "horizontalpodautoscalers", with(json!({ "spec": scaled }))),
        json!([
            "a",
            "Deployment/d",
            "cpu: <unknown>/80%, memory: <unknown>/1Gi + 1 more...",
            "<unset>",
            3,
            0,
            "24h"
        ])
    );
    let queuing = json!({"queues": 64, "handSize": 6, "queueLengthLimit": 50});
    let limited =
        json!({"nominalConcurrencyShares": 30, "limitResponse": {"type": "Queue", "queuing": queuing}});
    assert_eq!(
        row(
            "flowcontrol.apiserver.k8s.io/v1",
            "prioritylevelconfigurations",
            with(json!({"spec": {"type": "Limited", "limited": limited}}))
        ),
        json!(["a", "Limited", 30, 64, 6, 50, "24h"])
    );
    let flow = json!({"matchingPrecedence": 800, "priorityLevelConfiguration": {"name": "workload-high"}});
    assert_eq!(
        row("flowcontrol.apiserver.k8s.io/v1", "flowschemas", with(json!({ "spec": flow }))),
        json!(["a", "workload-high", 800, "<none>", "24h", "?"])
    );
    let parent = json!({"resource": "services", "namespace": "default", "name": "kubernetes"});
    assert_eq!(
        row("networking.k8s.io/v1", "ipaddresses", with(json!({"spec": {"parentRef": parent}}))),
        json!(["a", "services/default/kubernetes"])
    );
    let rules: Vec<Value> =
        ["a.ex", "b.ex", "c.ex", "d.ex"].iter().map(|host| json!({ "host": host })).collect();
    assert_eq!(
        row("networking.k8s.io/v1", "ingresses", with(json!({"spec": {"tls": [{}], "rules": rules}}))),
        json!(["a", "<none>", "a.ex,b.ex,c.ex + 1 more...", "", "80, 443", "24h"])
    );
    let subjects = json!([{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]);
    assert_eq!(
        row(
            "rbac.authorization.k8s.io/v1",
            "rolebindings",
            with(json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": subjects}))
        ),
        json!(["a", "Role/r", "24h", "u, v", "", "n/s"])
    );
    assert_eq!(
        row(
            "certificates.k8s.io/v1",
            "certificatesigningrequests",
            with(json!({"spec": {"signerName": "s/n", "username": "u", "expirationSeconds": 3600},
            "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}))
        ),
        json!(["a", "24h", "s/n", "u", "60m", "Approved,Issued"])
    );
    let event = json!({"involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "reason": "R", "type": "Normal", "message": "m ",
        "source": {"component": "c", "host": "h"}, "count": 4, "firstTimestamp": "2025-12-30T00:00:00Z", "lastTimestamp": made});
    assert_eq!(
        row("v1", "events", with(event)),
        json!(["24h", "Normal", "R", "pod/p", "spec", "c, h", "m", "2d", 4, "a"])
    );
    assert_eq!(
        row(
            "storage.k8s.io/v1",
            "csidrivers",
            with(
                json!({"spec": {"tokenRequests": [{"audience": "x"}], "volumeLifecycleModes": ["Persistent"]}})
            )
        ),
        json!(["a", true, false, false, "x", false, "Persistent", "24h"])
    );
}

#[test]
fn every_kind_prints_an_object_that_has_nothing() {
    for line in include_str!("columns.txt").lines().filter(|line| !line.starts_with('#')) {
        let (api_version, plural) = line.split_once(": ").unwrap().0.split_once(' ').unwrap();
        row(api_version, plural, json!({"metadata": {"name": "a"}}));
    }
}
