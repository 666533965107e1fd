use super::*;

fn custom(group: &str, version: &str, resource: &str) -> ObjectKind {
    ObjectKind::of_resource(GroupVersionResource::of_parts(group, version, resource))
}

#[test]
fn every_line_is_found_by_its_resource_its_objects_and_its_word() {
    for (kind, info) in KINDS {
        assert_eq!(kind.info(), Some(*info));
        assert_eq!(&ObjectKind::parse(&kind.to_string()), kind);
        assert_eq!(&custom(info.group, info.version, info.resource), kind);
        let word = info.kind.to_ascii_lowercase();
        assert_eq!(&ObjectKind::of_object(&info.api_version(), &word), kind);
        match info.word {
            Some(own) => assert_eq!((own, &ObjectKind::of_word(own)), (word.as_str(), kind)),
            None => assert_ne!(&ObjectKind::of_word(&word), kind, "{word} is another kind's"),
        }
    }
}

#[test]
fn no_two_lines_share_a_path_or_a_word() {
    let mut paths: Vec<_> = KINDS.iter().map(|(_, info)| (info.group, info.resource)).collect();
    let mut words: Vec<_> = KINDS.iter().filter_map(|(_, info)| info.word).collect();
    let lines = (paths.len(), words.len());
    paths.sort_unstable();
    paths.dedup();
    words.sort_unstable();
    words.dedup();
    assert_eq!((paths.len(), words.len()), lines);
}

#[test]
fn kinds_of_one_name_in_two_groups_are_two() {
    let (mine, theirs) = (custom("a.example.com", "v1", "valves"), custom("b.example.com", "v1", "valves"));
    assert_ne!(mine, theirs);
    assert_eq!((mine.to_string(), mine.word()), ("a.example.com/v1/valves".to_owned(), None));
    assert_eq!(custom("events.k8s.io", "v1", "events").to_string(), "events.k8s.io/v1/events");
    assert_eq!(custom("core", "v1", "events"), ObjectKind::Event);
    assert_eq!(ObjectKind::parse("a.example.com/v1/valves"), mine);
}

#[test]
fn an_object_names_its_kind_and_the_plural_is_guessed_as_kubeedge_does() {
    for (word, plural) in [("valve", "valves"), ("policy", "policies"), ("gas", "gases")] {
        assert_eq!(ObjectKind::of_object("x.io/v1", word), custom("x.io", "v1", plural));
    }
    assert_eq!(ObjectKind::of_object("v1", "pod"), ObjectKind::Pod);
    assert_eq!(ObjectKind::of_object("", "pod"), ObjectKind::Pod);
    assert_eq!(ObjectKind::of_object("", "valve").to_string(), "valve");
}

#[test]
fn a_node_is_sent_what_others_need_first() {
    let kinds: Vec<String> = synced().iter().map(ToString::to_string).collect();
    assert_eq!(kinds, ["node", "configmap", "secret", "devicemodel", "device", "pod"]);
}

#[test]
fn paths_are_those_of_the_api() {
    assert_eq!(api_path("", "v1", "pods", Some("d"), "p"), "/api/v1/namespaces/d/pods/p");
    assert_eq!(api_path("apps", "v1", "deployments", None, ""), "/apis/apps/v1/deployments");
}
