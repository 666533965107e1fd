use super::*;

fn fields(causes: &[Cause]) -> Vec<&str> {
    causes.iter().map(|cause| cause.field.as_str()).collect()
}

#[test]
fn what_every_cluster_has_is_complete_and_right() {
    for (plural, all) in [("flowschemas", schemas()), ("prioritylevelconfigurations", levels())] {
        for (name, spec) in all {
            let object = json!({"metadata": {"name": name}, "spec": spec});
            let mut completed = object.clone();
            complete(plural, &mut completed);
            assert_eq!(completed, object, "{plural} {name}");
            assert_eq!(fields(&problems(plural, &object)), Vec::<&str>::new(), "{plural} {name}");
        }
    }
}

#[test]
fn each_schema_names_a_level_there_is() {
    let levels = levels();
    for (name, spec) in schemas() {
        let level = text(&spec, "/priorityLevelConfiguration/name").to_owned();
        assert!(levels.iter().any(|(known, _)| *known == level), "{name}");
    }
}

#[test]
fn the_last_schema_stays_as_it_is() {
    let (_, mut spec) = schemas().pop().unwrap();
    spec["distinguisherMethod"] = json!({"type": "ByNamespace"});
    let object = json!({"metadata": {"name": "catch-all"}, "spec": spec});
    assert_eq!(fields(&problems("flowschemas", &object)), ["spec"]);
}

#[test]
fn a_schema_says_whose_requests_it_takes() {
    let spec = json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": "a"}, "rules": [
        {"subjects": [{"kind": "User", "group": {"name": "g"}}], "nonResourceRules": [{"verbs": ["*", "get"], "nonResourceURLs": ["a"]}]},
        {"subjects": [], "resourceRules": [{"verbs": ["eat"], "apiGroups": ["*"], "resources": [], "namespaces": []}]}]});
    let wanted = [
        "spec.matchingPrecedence",
        "spec.rules[0].subjects[0].user",
        "spec.rules[0].subjects[0].group",
        "spec.rules[0].nonResourceRules[0].verbs",
        "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]",
        "spec.rules[1].subjects",
        "spec.rules[1].resourceRules[0].verbs",
        "spec.rules[1].resourceRules[0].resources",
        "spec.rules[1].resourceRules[0].namespaces",
    ];
    assert_eq!(fields(&problems("flowschemas", &json!({"metadata": {"name": "s"}, "spec": spec}))), wanted);
}

#[test]
fn a_hand_is_no_larger_than_the_hash_can_deal() {
    let level = |queues: i64, hand: i64| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        json!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}}})
    };
    assert!(problems("prioritylevelconfigurations", &level(128, 8)).is_empty());
    for (queues, hand) in [(128, 10), (4, 5), (0, 1)] {
        assert!(!problems("prioritylevelconfigurations", &level(queues, hand)).is_empty(), "{queues} {hand}");
    }
}
