//! Cases of Kubernetes' page "Server-Side Apply" (kubernetes.io/docs/reference/using-api/server-side-apply) and of
//! structured-merge-diff's `merge/*_test.go`, where said.

use serde_json::{Value, json};

use super::*;
use crate::schemas::Type;

fn kind(group: &str, kind: &str) -> Schema<'static> {
    Schema::built_in(Type::of_kind(group, "v1", kind).unwrap())
}

fn at<'a>(manager: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, subresource: "", api_version: "v1", now, reset: &["status"] }
}

fn by(manager: &str) -> Writer<'_> {
    at(manager, "2026-01-01T00:00:00Z")
}

fn config_map(data: Value) -> Value {
    json!({"metadata": {"name": "m"}, "data": data})
}

fn applied(live: &Value, config: &Value, manager: &str, force: bool) -> Result<Value, ApplyError> {
    apply(live, config, kind("", "ConfigMap"), &by(manager), force)
}

/// (manager, operation, fields) of each entry.
fn record(object: &Value) -> Vec<(String, String, Value)> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| (text(entry, "manager"), text(entry, "operation"), entry["fieldsV1"].clone()))
        .collect()
}

fn entry(manager: &str, operation: &str, fields: Value) -> (String, String, Value) {
    (manager.to_owned(), operation.to_owned(), fields)
}

#[test]
fn a_set_reads_what_it_writes() {
    let text = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {".": {}, "v:\"a/b\"": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}},
        "i:3": {},
    });
    assert_eq!(Set::parse(&text).to_json(), text);
    assert_eq!(Set::parse(&json!({"x:unknown": {}, "f:a": {}})).to_json(), json!({"f:a": {}}));
}

#[test]
fn sets_are_joined_met_and_taken_from_each_other_by_exact_paths() {
    let set = |value: Value| Set::parse(&value);
    let a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
    let b = set(json!({"f:a": {}, "f:d": {"f:e": {}}}));
    assert_eq!(a.union(&b).to_json(), json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {"f:e": {}}}));
    assert_eq!(a.intersection(&b).to_json(), json!({"f:a": {}}));
    assert_eq!(a.difference(&b).to_json(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
    let paths = a.paths();
    assert_eq!(paths.len(), 3);
    assert!(paths.iter().all(|path| a.has(path)));
}

#[test]
fn a_creation_is_recorded_as_kubernetes_records_it() {
    // The shape that `kubectl create deployment` has in a cluster: what is always there has no dot.
    let mut new = json!({"metadata": {"name": "d", "uid": "u", "labels": {"app": "d"}}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "d"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {}, "ports": [{"containerPort": 80}]}]}}}});
    update(
        None,
        &mut new,
        kind("apps", "Deployment"),
        &Writer { api_version: "apps/v1", ..by("kubectl-create") },
    );
    let dotted = json!({".": {}, "f:app": {}});
    let expected = json!({"f:metadata": {"f:labels": dotted}, "f:spec": {
        "f:replicas": {}, "f:selector": {},
        "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
        "f:template": {"f:metadata": {"f:labels": dotted}, "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
            ".": {}, "f:name": {}, "f:image": {}, "f:resources": {}, "f:ports": {".": {},
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}});
    assert_eq!(record(&new), [entry("kubectl-create", "Update", expected)]);
    let first = &new["metadata"]["managedFields"][0];
    assert_eq!((&first["apiVersion"], &first["fieldsType"]), (&json!("apps/v1"), &json!("FieldsV1")));
}

#[test]
fn an_update_takes_what_it_changes_and_others_lose_it() {
    let schema = kind("", "ConfigMap");
    let mut one = config_map(json!({"a": "1", "b": "1", "c": "1"}));
    update(None, &mut one, schema, &by("one"));
    let mut two = one.clone();
    two["data"] = json!({"a": "2", "b": "1"});
    update(Some(&one), &mut two, schema, &by("two"));
    assert_eq!(
        record(&two),
        [
            entry("one", "Update", json!({"f:data": {".": {}, "f:b": {}}})),
            entry("two", "Update", json!({"f:data": {"f:a": {}}}))
        ]
    );
}

#[test]
fn an_update_that_changes_nothing_leaves_the_record_and_its_times_alone() {
    let schema = kind("", "ConfigMap");
    let mut one = config_map(json!({"a": "1"}));
    update(None, &mut one, schema, &by("one"));
    let mut same = one.clone();
    update(Some(&one), &mut same, schema, &at("two", "2026-02-02T00:00:00Z"));
    assert_eq!(same, one);
    // Clients that do not know the record leave it out.
    let mut bare = config_map(json!({"a": "1"}));
    update(Some(&one), &mut bare, schema, &at("one", "2026-02-02T00:00:00Z"));
    assert_eq!(bare["metadata"]["managedFields"], one["metadata"]["managedFields"]);
}

#[test]
fn a_change_that_is_repeated_moves_the_time_of_its_entry_only() {
    let schema = kind("", "ConfigMap");
    let mut one = config_map(json!({"a": "1"}));
    update(None, &mut one, schema, &by("zoe"));
    let step = |old: &Value, key: &str, value: Value, manager: &str, now: &str| {
        let mut new = old.clone();
        new["data"][key] = value;
        update(Some(old), &mut new, schema, &at(manager, now));
        new
    };
    let two = step(&one, "b", json!("1"), "amy", "2026-01-01T00:00:01Z");
    let again = step(&two, "a", json!("2"), "zoe", "2026-01-01T00:00:02Z");
    let mut expected = two["metadata"]["managedFields"].as_array().unwrap().clone();
    expected.reverse();
    expected[1]["time"] = json!("2026-01-01T00:00:02Z");
    assert_eq!(again["metadata"]["managedFields"], Value::Array(expected));
    // It is not the same if the other owns it too, or if a field goes.
    let taken = step(&again, "b", json!("2"), "zoe", "2026-01-01T00:00:03Z");
    assert_eq!(record(&taken), [entry("zoe", "Update", json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}))]);
    let mut less = taken.clone();
    less["data"] = json!({"a": "3"});
    update(Some(&taken), &mut less, schema, &by("zoe"));
    assert_eq!(record(&less), [entry("zoe", "Update", json!({"f:data": {".": {}, "f:a": {}}}))]);
}

#[test]
fn a_change_of_times_alone_is_none() {
    let mut one = config_map(json!({"a": "1"}));
    update(None, &mut one, kind("", "ConfigMap"), &by("one"));
    let mut later = one.clone();
    later["metadata"]["managedFields"][0]["time"] = json!("2026-02-02T00:00:00Z");
    assert!(differ_in_times_alone(&one, &later));
    for pointer in ["/data/a", "/metadata/name", "/metadata/managedFields/0/manager"] {
        let mut other = later.clone();
        *other.pointer_mut(pointer).unwrap() = json!("x");
        assert!(!differ_in_times_alone(&one, &other), "{pointer}");
    }
}

#[test]
fn a_subresource_has_an_entry_of_its_own() {
    let schema = kind("", "Node");
    let mut node = json!({"metadata": {"name": "n", "labels": {"a": "b"}}});
    update(None, &mut node, schema, &by("edge"));
    let mut told = node.clone();
    told["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    update(Some(&node), &mut told, schema, &Writer { subresource: "status", reset: &[], ..by("edge") });
    let status = json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {
        ".": {}, "f:type": {}, "f:status": {}}}}});
    assert_eq!(record(&told)[1], entry("edge", "Update", status));
    assert_eq!(told["metadata"]["managedFields"][1]["subresource"], "status");
    assert_eq!(told["metadata"]["managedFields"][0].get("subresource"), None);
}

#[test]
fn the_record_can_be_reset_and_edited_and_is_then_kept() {
    let schema = kind("", "ConfigMap");
    let mut one = config_map(json!({"a": "1"}));
    update(None, &mut one, schema, &by("one"));
    let mut reset = one.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    update(Some(&one), &mut reset, schema, &by("two"));
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let mut empty = one.clone();
    empty["metadata"]["managedFields"] = json!([]);
    update(Some(&one), &mut empty, schema, &by("two"));
    assert_eq!(empty, reset);
    // An object without a record gets none by an update.
    let mut changed = reset.clone();
    changed["data"]["a"] = json!("2");
    update(Some(&reset), &mut changed, schema, &by("two"));
    assert_eq!(record(&changed), []);
    // kubectl renames its entry when it moves to server-side apply (`csaupgrade`).
    let mut renamed = one.clone();
    renamed["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
    renamed["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    update(Some(&one), &mut renamed, schema, &by("two"));
    assert_eq!(record(&renamed), [entry("kubectl", "Apply", json!({"f:data": {".": {}, "f:a": {}}}))]);
    // What makes no sense does not lose the record.
    let mut broken = one.clone();
    broken["metadata"]["managedFields"][0]["operation"] = json!("Guess");
    update(Some(&one), &mut broken, schema, &by("two"));
    assert_eq!(record(&broken), record(&one));
}

#[test]
fn the_oldest_of_more_than_ten_updaters_are_joined() {
    let schema = kind("", "ConfigMap");
    let mut object = config_map(json!({}));
    for number in 0..12 {
        let mut next = object.clone();
        next["data"][format!("k{number:02}")] = json!("v");
        let (manager, now) = (format!("m{number:02}"), format!("2026-01-01T00:00:{number:02}Z"));
        update(Some(&object).filter(|_| number > 0), &mut next, schema, &at(&manager, &now));
        object = next;
    }
    let managers = record(&object);
    assert_eq!(managers.len(), 10);
    let ancient = managers.iter().find(|entry| entry.0 == "ancient-changes").unwrap();
    assert_eq!(ancient.2["f:data"].as_object().unwrap().len(), 4, "{}", ancient.2);
}

#[test]
fn what_is_applied_is_owned_leaf_by_leaf() {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "labels": {"l": "1"}},
        "data": {"key": "some value"}});
    let made = applied(&json!({}), &config, "kubectl", false).unwrap();
    assert_eq!(
        record(&made),
        [entry(
            "kubectl",
            "Apply",
            json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:data": {"f:key": {}}})
        )]
    );
    assert_eq!((made.get("kind"), &made["data"]), (None, &json!({"key": "some value"})));
}

#[test]
fn a_field_of_another_manager_is_a_conflict_that_names_it() {
    // The documentation's example: a controller changed the key, then the applier applies again.
    let live = applied(&json!({}), &config_map(json!({"key": "some value"})), "kubectl", false).unwrap();
    let mut changed = live.clone();
    changed["data"]["key"] = json!("new value");
    update(Some(&live), &mut changed, kind("", "ConfigMap"), &by("kube-controller-manager"));
    let again = config_map(json!({"key": "some value"}));
    let status = applied(&changed, &again, "kubectl", false).unwrap_err().into_status("");
    assert_eq!((status.code, status.reason.as_ref()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using v1: .data.key"
    );
    let cause = &status.causes[0];
    assert_eq!((cause.reason.as_ref(), cause.field.as_str()), ("FieldManagerConflict", ".data.key"));
    assert_eq!(cause.message, "conflict with \"kube-controller-manager\" using v1");
    // Force overwrites the value and takes the field over.
    let forced = applied(&changed, &again, "kubectl", true).unwrap();
    assert_eq!(forced["data"]["key"], "some value");
    assert_eq!(record(&forced), [entry("kubectl", "Apply", json!({"f:data": {"f:key": {}}}))]);
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let live = applied(&json!({}), &config_map(json!({"a": "1", "b": "1"})), "one", false).unwrap();
    let live = applied(&live, &config_map(json!({"c": "1"})), "two", false).unwrap();
    let error = applied(&live, &config_map(json!({"a": "9", "b": "9", "c": "9"})), "me", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .data.a\n- .data.b\nconflicts with \"two\":\n- .data.c"
    );
}

#[test]
fn appliers_of_one_value_share_the_field_and_the_last_one_takes_it_along() {
    let same = config_map(json!({"key": "v", "mine": "1"}));
    let live = applied(&json!({}), &same, "one", false).unwrap();
    let shared = applied(&live, &config_map(json!({"key": "v"})), "two", false).unwrap();
    assert_eq!(record(&shared).len(), 2);
    // One stops applying it: the other still has it. What only the first had goes.
    let left = applied(&shared, &config_map(json!({})), "one", false).unwrap();
    assert_eq!(left["data"], json!({"key": "v"}));
    let none = applied(&left, &json!({"metadata": {"name": "m"}}), "two", false).unwrap();
    assert_eq!(none["data"], json!({}));
}

#[test]
fn what_an_updater_set_beside_stays_when_the_applier_stops() {
    let live = applied(&json!({}), &config_map(json!({"a": "1"})), "one", false).unwrap();
    let mut more = live.clone();
    more["data"]["b"] = json!("2");
    update(Some(&live), &mut more, kind("", "ConfigMap"), &by("other"));
    let left = applied(&more, &json!({"metadata": {"name": "m"}}), "one", false).unwrap();
    assert_eq!(left["data"], json!({"b": "2"}));
}

#[test]
fn an_apply_of_the_same_moves_no_time() {
    let config = config_map(json!({"a": "1"}));
    let live = applied(&json!({}), &config, "one", false).unwrap();
    let later = at("one", "2026-02-02T00:00:00Z");
    assert_eq!(apply(&live, &config, kind("", "ConfigMap"), &later, false).unwrap(), live);
    let changed = apply(&live, &config_map(json!({"a": "2"})), kind("", "ConfigMap"), &later, false).unwrap();
    assert_eq!(changed["metadata"]["managedFields"][0]["time"], "2026-02-02T00:00:00Z");
}

#[test]
fn an_object_from_before_belongs_to_before_first_apply() {
    let live = config_map(json!({"a": "1", "b": "1"}));
    let changed = applied(&live, &config_map(json!({"a": "1", "c": "2"})), "one", false).unwrap();
    assert_eq!(
        record(&changed),
        [
            entry("one", "Apply", json!({"f:data": {"f:a": {}, "f:c": {}}})),
            entry("before-first-apply", "Update", json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}))
        ]
    );
    assert!(applied(&live, &config_map(json!({"a": "2"})), "one", false).is_err());
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client_side() {
    let annotation =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}});
    let mut live = json!({"metadata": {"name": "m", "annotations": {LAST: annotation.to_string()}},
        "data": {"a": "1", "b": "x"}});
    update(None, &mut live, kind("", "ConfigMap"), &by("kubectl-client-side-apply"));
    let config = |a: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": a}});
    let moved = applied(&live, &config("2"), "kubectl", false).unwrap();
    assert_eq!(moved["data"], json!({"a": "2", "b": "x"}));
    let kept: Value = serde_json::from_str(moved["metadata"]["annotations"][LAST].as_str().unwrap()).unwrap();
    assert_eq!(kept["data"], json!({"a": "2"}));
    // Another manager is no kubectl, and what the annotation did not have stays a conflict.
    assert!(applied(&live, &config("2"), "other", false).is_err());
    assert!(applied(&live, &config_map(json!({"b": "y"})), "kubectl", false).is_err());
}

const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn pod(containers: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
}

#[test]
fn items_of_keyed_lists_merge_and_go_by_their_keys() {
    let schema = kind("", "Pod");
    let one = pod(json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}]));
    let live = apply(&json!({}), &one, schema, &by("one"), false).unwrap();
    let two = pod(json!([{"name": "b", "image": "2"}, {"name": "a", "env": [{"name": "X", "value": "1"}]}]));
    let live = apply(&live, &two, schema, &by("two"), false).unwrap();
    assert_eq!(
        live["spec"]["containers"],
        json!([{"name": "b", "image": "2"},
            {"name": "a", "image": "1", "ports": [{"containerPort": 80}], "env": [{"name": "X", "value": "1"}]}])
    );
    // The item stays, as the other owns it; what only the second had in it goes.
    let left = apply(&live, &pod(json!([{"name": "b", "image": "2"}])), schema, &by("two"), false).unwrap();
    assert_eq!(
        left["spec"]["containers"],
        json!([{"name": "b", "image": "2"}, {"name": "a", "image": "1", "ports": [{"containerPort": 80}]}])
    );
    // A port with its protocol left out is the one with TCP.
    let tcp = pod(json!([{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]}]));
    let left = apply(&left, &tcp, schema, &by("three"), false).unwrap();
    assert_eq!(left["spec"]["containers"][1]["ports"].as_array().unwrap().len(), 1);
}

#[test]
fn atomic_lists_and_maps_are_owned_as_a_whole() {
    let schema = kind("", "Pod");
    let with = |tolerations: Value, selector: Value| json!({"metadata": {"name": "p"}, "spec": {"tolerations": tolerations, "nodeSelector": selector}});
    let live = apply(&json!({}), &with(json!([{"key": "a"}]), json!({"x": "1"})), schema, &by("one"), false)
        .unwrap();
    assert_eq!(record(&live)[0].2, json!({"f:spec": {"f:tolerations": {}, "f:nodeSelector": {}}}));
    let error =
        apply(&live, &with(json!([{"key": "b"}]), json!({"y": "1"})), schema, &by("two"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.nodeSelector\n- .spec.tolerations"
    );
}

#[test]
fn sets_grow_by_each_applier() {
    let with = |finalizer: &str| json!({"metadata": {"name": "m", "finalizers": [finalizer]}});
    let live = applied(&json!({}), &with("x.io/a"), "one", false).unwrap();
    let live = applied(&live, &with("x.io/b"), "two", false).unwrap();
    let mut found = live["metadata"]["finalizers"].as_array().unwrap().clone();
    found.sort_by_key(Value::to_string);
    assert_eq!(found, [json!("x.io/a"), json!("x.io/b")]);
    assert_eq!(record(&live)[0].2, json!({"f:metadata": {"f:finalizers": {"v:\"x.io/a\"": {}}}}));
    let left = applied(&live, &json!({"metadata": {"name": "m"}}), "one", false).unwrap();
    assert_eq!(left["metadata"]["finalizers"], json!(["x.io/b"]));
}

#[test]
fn what_does_not_fit_the_schema_is_refused_in_kubernetes_words() {
    let schema = kind("apps", "Deployment");
    let refused = |spec: Value| {
        let config = json!({"metadata": {"name": "d"}, "spec": spec});
        apply(&json!({}), &config, schema, &by("one"), false).unwrap_err().to_string()
    };
    assert_eq!(refused(json!({"foo": 1})), ".spec.foo: field not declared in schema");
    assert_eq!(
        refused(json!({"replicas": "a"})),
        ".spec.replicas: expected numeric (int or float), got &value.valueUnstructured{Value:\"a\"}"
    );
    assert_eq!(refused(json!({"template": {"spec": []}})), ".spec.template.spec: expected map, got &{[]}");
    let twice = json!({"template": {"spec": {"containers": [{"name": "c"}, {"name": "c"}], "foo": 1}}});
    assert_eq!(refused(twice), ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]");
    // The name of a container is "" if it is left out.
    let unnamed =
        json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [{"image": "i"}]}}}});
    assert!(apply(&json!({}), &unnamed, schema, &by("one"), false).is_ok());
    let mut with_record = config_map(json!({}));
    with_record["metadata"]["managedFields"] = json!([]);
    assert_eq!(applied(&json!({}), &with_record, "one", false), Err(ApplyError::HasRecord));
}

#[test]
fn custom_resources_are_owned_by_their_structural_schema() {
    let definition = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id", "zone"],
            "items": {"type": "object", "properties": {"id": {"type": "integer"}, "v": {"type": "string"},
                "zone": {"type": "string", "default": "z"}}}},
        "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "plain": {"type": "array", "items": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    let schema = Schema::custom(Some(&definition));
    let config = json!({"metadata": {"name": "c", "labels": {"a": "b"}}, "spec": {"items": [{"id": 1, "v": "x"}],
        "names": ["n"], "whole": {"a": "b"}, "plain": ["p"], "free": {"deep": {"er": 1}}}});
    let made = apply(&json!({}), &config, schema, &by("one"), false).unwrap();
    assert_eq!(
        record(&made)[0].2,
        json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {
            "f:items": {"k:{\"id\":1,\"zone\":\"z\"}": {".": {}, "f:id": {}, "f:v": {}}},
            "f:names": {"v:\"n\"": {}}, "f:whole": {}, "f:plain": {}, "f:free": {"f:deep": {".": {}, "f:er": {}}}}})
    );
    // A record begins with who made the object, and nobody else.
    assert_eq!(record(&made).len(), 1);
    let error = apply(&made, &json!({"spec": {"nope": 1}}), schema, &by("one"), false).unwrap_err();
    assert_eq!(error.to_string(), ".spec.nope: field not declared in schema");
}

#[test]
fn an_applier_of_the_object_does_not_own_its_status() {
    let schema = kind("apps", "Deployment");
    let config = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1}, "status": {"replicas": 3}});
    let made = apply(&json!({}), &config, schema, &by("one"), false).unwrap();
    assert_eq!(record(&made)[0].2, json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(made.get("status"), None);
}

#[test]
fn a_value_of_another_sort_takes_the_place_of_all_that_was_in_it() {
    let schema = Schema::custom(None);
    let found = compare(&json!({"spec": {"a": {"b": 1}}}), &json!({"spec": {"a": "x"}}), schema, &[]);
    assert_eq!(found.modified.to_json(), json!({"f:spec": {"f:a": {}}}));
    assert_eq!(found.removed.to_json(), json!({"f:spec": {"f:a": {"f:b": {}}}}));
    let back = compare(&json!({"spec": {"a": "x"}}), &json!({"spec": {"a": {"b": 1}}}), schema, &[]);
    assert_eq!((back.added, back.modified), (found.removed, found.modified));
}

#[test]
fn a_label_set_to_null_is_owned_as_it_is_said() {
    // A null in a map of scalars is a leaf (`typed/tofieldset.go`).
    let set = Set::of_value(&json!({"spec": {"replicas": null, "template": {}}}), kind("apps", "Deployment"));
    assert_eq!(set.to_json(), json!({"f:spec": {"f:replicas": {}, "f:template": {}}}));
}
