use super::*;
use serde_json::{Value, json};

fn meta(name: &str, uid: &str, version: &str) -> Meta {
    Meta {
        name: name.into(),
        namespace: Some("d".into()),
        uid: uid.into(),
        resource_version: version.into(),
        deletion_timestamp: None,
    }
}

fn pod(name: &str, version: &str, phase: &str) -> (Meta, Json) {
    let object = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": version},
        "spec": {
            "nodeName": "e1",
            "serviceAccountName": "robot",
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}]}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "c1"}}]}],
            "volumes": [
                {"projected": {"sources": [{"configMap": {"name": "c2"}}, {"secret": {"name": "s2"}}]}},
                {"secret": {"secretName": "s3"}}
            ],
            "imagePullSecrets": [{"name": "s4"}]
        },
        "status": {"phase": phase}
    });
    (meta(name, name, version), Json::encode(&object).unwrap())
}

fn names(changes: &[(String, Change)]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Put(wanted) => format!("+{}", wanted.key),
        Change::Remove { key, may_return, .. } => format!("{}{key}", if *may_return { "~" } else { "-" }),
        Change::EndSession => "end".to_owned(),
    };
    changes.iter().map(|(node, change)| format!("{node} {}", name(change))).collect()
}

#[test]
fn what_is_optional_everywhere_is_not_needed() {
    let mut graph = Placement::default();
    let (meta, object) = pod("p", "1", "");
    graph.put(Arrived::read(ObjectKind::Pod, &meta, object));
    let volumes = json!([
        {"configMap": {"name": "c1", "optional": true}},
        {"secret": {"secretName": "s9", "optional": true}},
    ]);
    let object = json!({"metadata": {"name": "q"}, "spec": {"nodeName": "e1", "volumes": volumes}});
    graph.put(Arrived::read(
        ObjectKind::Pod,
        &super::tests::meta("q", "q", "2"),
        Json::encode(&object).unwrap(),
    ));
    let needed = |kind, name| graph.is_needed("e1", &ObjectKey::new(Some("d"), kind, name));
    assert!(needed(ObjectKind::ConfigMap, "c1"), "another pod needs it");
    assert!(needed(ObjectKind::Secret, "s3"));
    assert!(!needed(ObjectKind::Secret, "s9") && !needed(ObjectKind::Secret, "s4"));
    assert!(!graph.is_needed("e2", &ObjectKey::new(Some("d"), ObjectKind::Secret, "s3")));
}

#[test]
fn a_node_without_its_database_learns_how_far_a_pod_had_come() {
    let mut graph = Placement::default();
    let (first, object) = pod("p", "1", "Pending");
    graph.put(Arrived::read(ObjectKind::Pod, &first, object));
    let (told, object) = pod("p", "2", "Succeeded");
    assert_eq!(
        graph.put(Arrived::read(ObjectKind::Pod, &told, object)),
        [],
        "the node's own words are no news to it"
    );
    let served = graph.set_of("e1").into_iter().find(|wanted| wanted.key.kind == ObjectKind::Pod).unwrap();
    assert!(served.object.here().unwrap().text().contains("Succeeded"));
    assert_eq!(served.version, ResourceVersion("1".into()), "the version that the node has acknowledged");
}

#[test]
fn events_of_a_pod_that_just_went_are_its_nodes() {
    let mut graph = Placement::default();
    let (meta, object) = pod("p", "1", "Running");
    graph.put(Arrived::read(ObjectKind::Pod, &meta, object.clone()));
    graph.gone(ObjectKind::Pod, &meta, object.clone());
    assert!(graph.has_left("e1", "d", "p", "p"));
    assert!(!graph.has_left("e2", "d", "p", "p") && !graph.has_left("e1", "d", "p", "another"));
    for number in 0..LEFT {
        let name = number.to_string();
        let (meta, object) = pod(&name, "1", "Running");
        graph.put(Arrived::read(ObjectKind::Pod, &meta, object.clone()));
        graph.gone(ObjectKind::Pod, &meta, object);
    }
    assert!(!graph.has_left("e1", "d", "p", "p") && graph.left.len() == LEFT);
}

#[test]
fn a_pod_brings_everything_it_refers_to_whatever_came_first() {
    let mut graph = Placement::default();
    let map = |name: &str| Arrived::read(ObjectKind::ConfigMap, &meta(name, name, "1"), Json::null());
    graph.put(map("c1"));
    graph.put(map("other"));
    let (pod_meta, object) = pod("p", "5", "Pending");
    let arrived = graph.put(Arrived::read(ObjectKind::Pod, &pod_meta, object));
    assert_eq!(names(&arrived), ["e1 +d/pod/p"]);
    assert_eq!(
        graph.missing().cloned().collect::<Vec<_>>(),
        [ObjectKey::new(Some("d"), ObjectKind::ConfigMap, "c1")]
    );
    assert_eq!(names(&graph.fetched(map("c1"))), ["e1 +d/configmap/c1"]);
    let later = graph.put(Arrived::read(ObjectKind::Secret, &meta("s3", "s3", "6"), Json::null()));
    assert_eq!(names(&later), ["e1 +d/secret/s3"]);
    let set: BTreeSet<String> = graph.set_of("e1").iter().map(|wanted| wanted.key.to_string()).collect();
    assert_eq!(set, BTreeSet::from(["d/configmap/c1".into(), "d/pod/p".into(), "d/secret/s3".into()]));
    for secret in ["s1", "s2", "s3", "s4"] {
        assert!(graph.may_read("e1", &ObjectKey::new(Some("d"), ObjectKind::Secret, secret)), "{secret}");
    }
    assert!(!graph.may_read("e2", &ObjectKey::new(Some("d"), ObjectKind::Secret, "s1")));
    assert!(!graph.may_read("e1", &ObjectKey::new(Some("d"), ObjectKind::ConfigMap, "other")));
    assert!(graph.may_mint("e1", "d", "robot", "p", "p"));
    assert!(!graph.may_mint("e1", "d", "admin", "p", "p"));
}

#[test]
fn a_status_echo_is_not_sent_and_a_spec_change_is() {
    let mut graph = Placement::default();
    let (first, object) = pod("p", "5", "Pending");
    graph.put(Arrived::read(ObjectKind::Pod, &first, object));
    let (second, object) = pod("p", "6", "Running");
    assert!(graph.put(Arrived::read(ObjectKind::Pod, &second, object)).is_empty());
    let (mut third, object) = pod("p", "7", "Running");
    third.deletion_timestamp = Some("now".into());
    let mut value: Value = object.parse().unwrap();
    value["metadata"]["deletionTimestamp"] = json!("now");
    let changes = graph.put(Arrived::read(ObjectKind::Pod, &third, Json::encode(&value).unwrap()));
    assert_eq!(names(&changes), ["e1 +d/pod/p"]);
}

#[test]
fn the_last_pod_takes_its_references_with_it() {
    let mut graph = Placement::default();
    graph.put(Arrived::read(ObjectKind::ConfigMap, &meta("c1", "cm", "1"), Json::null()));
    for name in ["a", "b"] {
        let (pod_meta, object) = pod(name, "5", "Running");
        graph.put(Arrived::read(ObjectKind::Pod, &pod_meta, object));
    }
    let key = ObjectKey::new(Some("d"), ObjectKind::ConfigMap, "c1");
    assert_eq!(names(&graph.gone(ObjectKind::Pod, &meta("a", "a", "9"), Json::null())), ["e1 -d/pod/a"]);
    assert!(graph.may_read("e1", &key));
    assert_eq!(
        names(&graph.gone(ObjectKind::Pod, &meta("b", "b", "9"), Json::null())),
        ["e1 -d/pod/b", "e1 ~d/configmap/c1"]
    );
    assert!(!graph.may_read("e1", &key));
    assert!(graph.referrers.is_empty() && graph.pods.is_empty() && graph.by_node.is_empty());
}

#[test]
fn a_heartbeat_of_the_node_is_not_sent_back_to_it() {
    let mut graph = Placement::default();
    let node = |beat: &str, label: &str| {
        Json::encode(&json!({"metadata": {"name": "e1", "labels": {"l": label}}, "status": {"beat": beat}}))
            .unwrap()
    };
    let node_meta = |version: &str| Meta { namespace: None, ..meta("e1", "n", version) };
    assert_eq!(graph.put(Arrived::read(ObjectKind::Node, &node_meta("1"), node("1", "a"))).len(), 1);
    assert!(graph.put(Arrived::read(ObjectKind::Node, &node_meta("2"), node("2", "a"))).is_empty());
    assert_eq!(graph.put(Arrived::read(ObjectKind::Node, &node_meta("3"), node("2", "b"))).len(), 1);
}

#[test]
fn lists_that_are_null_or_no_lists_are_absent_and_the_pod_reaches_its_node() {
    for damage in [json!(null), json!("text"), json!({"a": 1})] {
        let mut graph = Placement::default();
        let spec = json!({"nodeName": "e1", "serviceAccountName": null, "initContainers": damage, "imagePullSecrets": damage,
            "containers": [{"args": 7, "envFrom": [{"secretRef": {"name": "s1"}}]}], "volumes": damage});
        let object = json!({"metadata": {"name": "p"}, "spec": spec});
        let changes =
            graph.put(Arrived::read(ObjectKind::Pod, &meta("p", "p", "1"), Json::encode(&object).unwrap()));
        assert_eq!(names(&changes), ["e1 +d/pod/p"], "{damage}");
        assert!(graph.may_read("e1", &ObjectKey::new(Some("d"), ObjectKind::Secret, "s1")));
        assert!(graph.may_mint("e1", "d", "default", "p", "p"));
    }
}

#[test]
fn a_mirror_leads_to_nothing() {
    let mut graph = Placement::default();
    let object = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "h"}},
        "spec": {"nodeName": "e1", "containers": [{"envFrom": [{"secretRef": {"name": "s1"}}]}]}});
    graph.put(Arrived::read(ObjectKind::Pod, &meta("p", "p", "1"), Json::encode(&object).unwrap()));
    assert!(graph.owns_pod("e1", "d", "p"));
    assert!(!graph.may_read("e1", &ObjectKey::new(Some("d"), ObjectKind::Secret, "s1")));
    assert!(!graph.may_mint("e1", "d", "default", "p", "p"));
}

#[test]
fn an_object_that_was_made_anew_while_its_text_was_fetched_takes_the_place_of_the_old_one() {
    let mut graph = Placement::with_texts(0);
    let map = |name: &str, uid: &str, version: &str| {
        let object = Json::of(&json!({"data": {"k": uid}}));
        Arrived::read(ObjectKind::ConfigMap, &meta(name, uid, version), object)
    };
    let (pod_meta, pod_text) = pod("p", "1", "Running");
    graph.put(Arrived::read(ObjectKind::Pod, &pod_meta, pod_text));
    graph.put(map("c1", "old", "2"));
    graph.put(map("c2", "other", "3"));
    let key = ObjectKey::new(Some("d"), ObjectKind::ConfigMap, "c1");
    assert!(graph.want("e1", &key).is_empty() && graph.is_missing(&key));
    assert_eq!(names(&graph.fetched(map("c1", "new", "9"))), ["e1 +d/configmap/c1", "e1 -d/configmap/c1"]);
}
