use super::*;
use serde_json::json;

const PODS: Of<'_> = Of { group: "", plural: "pods" };

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]}})
}

#[test]
fn a_pod_is_charged_with_what_it_asks_for_until_there_is_no_more() {
    let quota =
        quota(json!({"requests.cpu": "1", "pods": "5"}), json!({"requests.cpu": "600m", "pods": "1"}));
    let after = charge(&quota, PODS, None, &pod("300m")).unwrap().unwrap();
    assert_eq!(after.told(), "pods=2,requests.cpu=900m");
    let refused = charge(&quota, PODS, None, &pod("500m")).unwrap_err();
    assert_eq!(
        refused,
        "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let unsaid = charge(&quota, PODS, None, &json!({"spec": {"containers": [{"name": "c"}]}})).unwrap_err();
    assert_eq!(unsaid, "failed quota: q: must specify requests.cpu for: c");
}

#[test]
fn a_quota_of_which_nothing_is_known_yet_allows_nothing() {
    let mut quota = quota(json!({"pods": "5"}), json!({}));
    let why = charge(&quota, PODS, None, &pod("1")).unwrap_err();
    assert_eq!(why, "status unknown for quota: q, resources: pods");
    quota["status"] = json!({});
    assert_eq!(charge(&quota, PODS, None, &pod("1")), Ok(None));
}

#[test]
fn scopes_choose_pods() {
    let scoped = |scope: Value| json!({"metadata": {"name": "q"}, "spec": scope});
    let ends = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high"}, "status": {"qosClass": "BestEffort"}});
    let stays = json!({"spec": {}, "status": {"qosClass": "Burstable"}});
    for (scope, is_of_first) in
        [("Terminating", true), ("NotTerminating", false), ("BestEffort", true), ("NotBestEffort", false)]
    {
        let quota = scoped(json!({"scopes": [scope]}));
        assert_eq!(selects(&quota, PODS, &ends), is_of_first, "{scope}");
        assert_eq!(selects(&quota, PODS, &stays), !is_of_first, "{scope}");
    }
    let by_class = scoped(json!({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}));
    assert!(selects(&by_class, PODS, &ends) && !selects(&by_class, PODS, &stays));
    assert!(!selects(&by_class, Of { group: "", plural: "services" }, &json!({})));
}

#[test]
fn a_pod_that_gets_a_deadline_moves_to_the_quota_of_those_that_end() {
    let quota = |scope: &str| {
        let mut quota = quota(json!({"pods": "1"}), json!({"pods": "0"}));
        quota["spec"]["scopes"] = json!([scope]);
        quota
    };
    let (stays, ends) = (json!({"spec": {}}), json!({"spec": {"activeDeadlineSeconds": 5}}));
    assert!(PODS.moves(&stays, &ends) && !PODS.moves(&ends, &ends));
    let charged = charge(&quota("Terminating"), PODS, Some(&stays), &ends).unwrap().unwrap();
    assert_eq!(charged.told(), "pods=1");
    assert_eq!(charge(&quota("NotTerminating"), PODS, Some(&stays), &ends), Ok(None));
    assert_eq!(charge(&quota("Terminating"), PODS, Some(&ends), &ends), Ok(None));
}

#[test]
fn what_is_used_is_counted_by_kind_and_pods_that_ended_are_objects_only() {
    let quota = quota(
        json!({"pods": "1", "count/pods": "9", "services.nodeports": "1", "count/widgets.example.com": "4",
            "gold.storageclass.storage.k8s.io/requests.storage": "9Gi"}),
        json!({}),
    );
    let mut ended = pod("1");
    ended["status"] = json!({"phase": "Succeeded"});
    let service = json!({"spec": {"type": "NodePort", "ports": [{}, {}]}});
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "3Gi"}}}});
    let objects = [
        (PODS, &pod("1")),
        (PODS, &ended),
        (Of { group: "", plural: "services" }, &service),
        (Of { group: "", plural: "persistentvolumeclaims" }, &claim),
        (Of { group: "example.com", plural: "widgets" }, &json!({})),
    ];
    assert_eq!(
        used(&quota, objects.into_iter()).told(),
        "count/pods=2,count/widgets.example.com=1,gold.storageclass.storage.k8s.io/requests.storage=3Gi,pods=1,services.nodeports=2"
    );
}
