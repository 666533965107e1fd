use super::*;

#[test]
fn defaults_twice_change_nothing() {
    for (group, plural) in [
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("storage.k8s.io", "storageclasses"),
        ("networking.k8s.io", "networkpolicies"),
    ] {
        let mut once = json!({"spec": {"hostPath": {"path": "/x"}, "egress": [{"ports": [{"port": 1}]}]}});
        complete(group, plural, &mut once);
        let mut twice = once.clone();
        complete(group, plural, &mut twice);
        assert_eq!(once, twice, "{plural}");
    }
}

fn fields(group: &str, plural: &str, object: &Value) -> Vec<String> {
    problems(group, plural, object).into_iter().map(|cause| cause.field).collect()
}

#[test]
fn each_mistake_is_named_by_its_field() {
    let node = json!({"spec": {"taints": [
        {"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"},
        {"key": "b c", "effect": "Never"}, {"key": "d"}]}});
    let wanted = [
        "metadata.taints[1]",
        "metadata.taints[2].key",
        "metadata.taints[2].effect",
        "metadata.taints[3].effect",
    ];
    assert_eq!(fields("", "nodes", &node), wanted);
    let slice =
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["::1"]}]});
    assert_eq!(fields("discovery.k8s.io", "endpointslices", &slice), ["endpoints[1].addresses"]);
    let subsets = json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}, {"ip": "0.0.0.0"}, {"ip": "x"}]}]});
    let wanted = ["subsets[0].addresses[1].ip", "subsets[0].addresses[2].ip"];
    assert_eq!(fields("", "endpoints", &subsets), wanted);
    let path = |kind: &str, path: &str| {
        let paths = json!([{"pathType": kind, "path": path}]);
        json!({"spec": {"rules": [{"http": {"paths": paths}}]}})
    };
    assert_eq!(fields("networking.k8s.io", "ingresses", &path("Exact", "x")).len(), 1);
    assert!(fields("networking.k8s.io", "ingresses", &path("Prefix", "/x")).is_empty());
    let event = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
    assert_eq!(fields("", "events", &event), ["involvedObject.namespace"]);
    let lease = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": 0}});
    assert_eq!(fields("coordination.k8s.io", "leases", &lease), ["spec.leaseDurationSeconds"]);
}

#[test]
fn a_claim_is_bound_and_grows_and_nothing_else() {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut bound = claim.clone();
    bound["volumeName"] = json!("v");
    bound["resources"]["requests"]["storage"] = json!("2Gi");
    assert!(claim_changes(&claim, &bound).is_empty());
    assert_eq!(claim_changes(&bound, &claim).len(), 1);
    let mut shared = claim.clone();
    shared["accessModes"] = json!(["ReadWriteMany"]);
    assert_eq!(claim_changes(&claim, &shared).len(), 1);
}
