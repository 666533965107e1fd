use super::*;

fn decode(kind: &str, mut value: Value) -> Result<(Value, Vec<String>), String> {
    let group = if kind == "Deployment" { "apps" } else { "" };
    let of = Type::of_kind(group, "v1", kind).unwrap();
    built_in(&mut value, of).map(|told| (value, told)).map_err(|error| error.to_string())
}

#[test]
fn unknown_fields_are_dropped_and_named_even_if_they_are_null() {
    let (value, told) = decode(
        "Pod",
        json!({"metadata": {"name": "p", "nope": {}}, "spec": {"containers": [{"name": "c", "imgae": "x", "command": ["a"]}],
            "foo": null, "nodeName": null}}),
    )
    .unwrap();
    assert_eq!(
        told,
        [
            "unknown field \"metadata.nope\"",
            "unknown field \"spec.containers[0].imgae\"",
            "unknown field \"spec.foo\""
        ]
    );
    assert_eq!(
        value,
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "command": ["a"]}]}})
    );
}

#[test]
fn mistyped_fields_are_refused_in_the_words_of_go() {
    let refused = |kind: &str, value: Value| decode(kind, value).unwrap_err();
    assert_eq!(
        refused("Deployment", json!({"spec": {"replicas": "3"}})),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        refused(
            "Deployment",
            json!({"spec": {"template": {"spec": {"containers": [{"env": [{"value": 1}]}]}}}})
        ),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"
    );
    assert_eq!(
        refused("Pod", json!({"spec": {"containers": {}}})),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
    );
    assert_eq!(
        refused("ConfigMap", json!({"data": {"a": true}})),
        "json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"
    );
    assert!(
        refused("Pod", json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}}))
            .contains("quantities")
    );
    assert!(
        refused("Pod", json!({"metadata": {"creationTimestamp": "now"}})).starts_with("parsing time \"now\"")
    );
}

#[test]
fn amounts_become_canonical_and_ports_stay_as_they_are() {
    let container = json!({"resources": {"limits": {"cpu": 1, "memory": "0.5Gi"}, "requests": {"cpu": 1.5}},
        "livenessProbe": {"httpGet": {"port": "web"}}, "readinessProbe": {"httpGet": {"port": 80}}});
    let (value, told) = decode("Pod", json!({"spec": {"containers": [container]}})).unwrap();
    let container = &value["spec"]["containers"][0];
    assert_eq!(
        container["resources"],
        json!({"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "1500m"}})
    );
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], "web");
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], 80);
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn what_did_not_change_is_not_decoded_again() {
    let of = Type::of_kind("", "v1", "Pod").unwrap();
    let old = json!({"metadata": {"name": "p"}, "spec": {"odd": 1, "containers": [{"image": "a"}]}});
    let mut new = old.clone();
    new["spec"]["containers"][0]["igame"] = json!("b");
    new["spec"]["even"] = json!(2);
    let told = changed(&mut new, &old, of, Decoding::Json).unwrap();
    assert_eq!(told, ["unknown field \"spec.containers[0].igame\"", "unknown field \"spec.even\""]);
    assert_eq!(new, old);
    assert!(changed(&mut json!({"spec": []}), &old, of, Decoding::Json).is_err());
}

#[test]
fn empty_lists_and_maps_are_missing_ones_unless_the_kind_must_have_them() {
    let (value, _) = decode(
        "Pod",
        json!({"metadata": {"labels": {}, "finalizers": [], "managedFields": []}, "spec": {"containers": [],
            "tolerations": [], "volumes": [{"name": "v", "emptyDir": {}}]}}),
    )
    .unwrap();
    assert_eq!(
        value,
        json!({"metadata": {"managedFields": []}, "spec": {"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]}})
    );
}

#[test]
fn values_are_shown_as_go_prints_them() {
    assert_eq!(in_go(&json!({"b": [1, "x", null], "a": {"c": true}})), "map[a:map[c:true] b:[1 x <nil>]]");
}

#[test]
fn nulls_are_missing_fields_and_empty_values() {
    let (value, _) = decode(
        "Pod",
        json!({"metadata": {"labels": {"a": null}, "annotations": null}, "spec": {"volumes": null}}),
    )
    .unwrap();
    assert_eq!(value, json!({"metadata": {"labels": {"a": ""}}, "spec": {}}));
}

#[test]
fn fields_that_come_twice_are_named_and_the_last_counts() {
    let text =
        r#"{"a": 1, "b": [{"c": {"d": 1, "d": 2}}], "a": {"e": null, "e": 1.5}, "f": {"b": 1, "x": -1}}"#;
    let read: Strict = serde_json::from_str(text).unwrap();
    assert_eq!(read.duplicates, ["b[0].c.d", "a.e", "a"]);
    let plain: Value = serde_json::from_str(text).unwrap();
    assert_eq!(read.value, plain);
    assert!(serde_json::from_str::<Strict>(&"[".repeat(500)).is_err());
}

#[test]
fn the_metadata_of_custom_resources_is_decoded_as_well() {
    let mut value = json!({"metadata": {"name": "x", "nope": 1}, "spec": {"any": null}});
    assert_eq!(metadata(&mut value).unwrap(), ["unknown field \"metadata.nope\""]);
    assert_eq!(value, json!({"metadata": {"name": "x"}, "spec": {"any": null}}));
    let error = metadata(&mut json!({"metadata": {"labels": []}})).unwrap_err().to_string();
    assert_eq!(
        error,
        "json: cannot unmarshal array into Go struct field ObjectMeta.labels of type map[string]string"
    );
}

#[test]
fn what_a_strategic_merge_patch_makes_is_refused_in_the_words_of_the_converter() {
    let of = Type::of_kind("", "v1", "Pod").unwrap();
    for (new, told) in [
        (json!({"metadata": {"labels": "a"}}), "cannot restore map from string"),
        (json!({"spec": {"containers": 1}}), "cannot restore slice from int64"),
        (json!({"spec": []}), "cannot restore struct from: slice"),
        (json!({"spec": {"nodeName": 1}}), "cannot convert int64 to string"),
        (json!({"spec": {"nodeName": true}}), "unrecognized type: string"),
        (json!({"spec": {"priority": "1"}}), "unrecognized type: int32"),
        (json!({"spec": {"priority": 1.5}}), "cannot convert float64 to int32"),
        (json!({"spec": {"hostNetwork": {}}}), "unrecognized type: bool"),
    ] {
        let refused = changed(&mut new.clone(), &json!({}), of, Decoding::Restored).unwrap_err();
        assert_eq!(refused.to_string(), told, "{new}");
    }
}
