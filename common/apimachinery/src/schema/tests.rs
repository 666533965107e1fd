use super::*;
use serde_json::json;

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "minLength": 1},
            "mode": {"type": "string", "enum": ["fast", "slow"], "default": "slow"},
            "count": {"type": "integer", "format": "int64", "minimum": 0, "default": 3},
            "port": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"in": {"type": "object"}}},
            "empty": {"type": "object"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {
                "a": {"type": "integer", "default": 7}}}}},
            "maybe": {"type": "string", "nullable": true},
        }},
    }})
}

#[test]
fn unknown_fields_go_and_declared_ones_stay() {
    let mut value = json!({"kind": "K", "metadata": {"any": 1}, "junk": 1, "spec": {"name": "x", "no": 1,
        "free": {"a": {"b": 1}, "in": {"gone": 1}}, "empty": {"x": 1}, "labels": {"l": "v"}, "list": [[{"a": 1, "b": 2}]]}});
    assert_eq!(
        prune(&mut value, &schema()),
        ["junk", "spec.empty.x", "spec.free.in.gone", "spec.list[0][0].b", "spec.no"]
    );
    assert_eq!(
        value,
        json!({"kind": "K", "metadata": {"any": 1}, "spec": {"name": "x", "free": {"a": {"b": 1}, "in": {}},
            "empty": {}, "labels": {"l": "v"}, "list": [[{"a": 1}]]}})
    );
}

#[test]
fn defaults_fill_what_is_missing_at_every_depth() {
    let mut value = json!({"spec": {"count": null, "list": [[{}]]}});
    defaults(&mut value, &schema());
    assert_eq!(value, json!({"spec": {"count": 3, "mode": "slow", "list": [[{"a": 7}]]}}));
}

#[test]
fn what_does_not_fit_is_named() {
    let fields = |value: Value| -> Vec<String> {
        validate(&value, &schema()).into_iter().map(|cause| cause.field).collect()
    };
    assert!(
        fields(
            json!({"spec": {"name": "x", "count": 9_007_199_254_740_993_i64, "port": "http", "maybe": null}})
        )
        .is_empty()
    );
    assert_eq!(fields(json!({"spec": {}})), ["spec.name"]);
    assert_eq!(fields(json!({"spec": {"name": ""}})), ["spec.name"]);
    assert_eq!(
        fields(json!({"spec": {"name": "x", "mode": "odd", "count": -1, "port": 1.5}})),
        ["spec.count", "spec.mode", "spec.port"]
    );
    assert_eq!(fields(json!({"spec": {"name": "x", "list": [[{"a": "b"}]]}})), ["spec.list[0][0].a"]);
    assert_eq!(fields(json!({"spec": {"name": "x", "labels": {"l": 1}}})), ["spec.labels.l"]);
    assert_eq!(fields(json!({"spec": "x"})), ["spec"]);
}

#[test]
fn fields_beside_known_ones_are_kept_where_the_schema_says_so_but_not_what_is_in_them() {
    let schema = |additional: Value| {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}},
            "additionalProperties": additional}}})
    };
    assert_eq!(structural::problems(&schema(json!(true)), "s"), vec![]);
    for refused in [json!(false), json!({"type": "string"})] {
        let causes = structural::problems(&schema(refused), "s");
        assert!(causes.iter().any(|cause| cause.message.contains("mutual exclusive")), "{causes:?}");
    }
    let mut value = json!({"spec": {"a": "1", "b": 2, "c": {"d": 3}, "e": [{"f": 4}]}});
    let dropped = prune(&mut value, &schema(json!(true)));
    assert_eq!(value, json!({"spec": {"a": "1", "b": 2, "c": {}, "e": [{}]}}));
    assert_eq!(dropped, ["spec.c.d", "spec.e[0].f"]);
}
