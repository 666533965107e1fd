//! MutatingAdmissionPolicies.

use serde_json::{Value, json};

use super::{budget, told};
use crate::*;

fn policy(mutations: Value) -> Value {
    let mut policy = json!({"metadata": {"name": "p"}, "spec": {
        "reinvocationPolicy": "Never", "mutations": mutations,
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
        "variables": [{"name": "one", "expression": "1"}, {"name": "broken", "expression": "object.nothing"}],
    }});
    complete(&mut policy);
    policy
}

fn applies(expression: &str) -> Value {
    json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}])
}

fn patches(expression: &str) -> Value {
    json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}])
}

/// What an expression makes, as a list, and what went wrong.
fn made(mutations: Value) -> (Vec<Change>, Vec<String>) {
    let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}});
    let request = Request { object, ..Request::default() };
    let mut changes = Vec::new();
    let mut apply = |object: &Value, change| {
        changes.push(change);
        Ok(object.clone())
    };
    let compiled = Policy::compile(&policy(mutations));
    let mutated = mutate(&compiled, &Value::Null, &request, &mut apply, &budget());
    (changes, mutated.errors)
}

#[test]
fn objects_and_patches_become_json() {
    let expression = "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: object.spec.replicas * 2, \
                      items: [1, 2].map(i, Object.spec.items{size: i}), ?none: optional.none(), half: 0.5, whole: 2.0}}";
    let wanted = json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"replicas": 6, "items": [{"size": 1}, {"size": 2}], "half": 0.5, "whole": 2}});
    assert_eq!(made(applies(expression)), (vec![Change::Apply(wanted)], vec![]));
    let expression = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: {'n': variables.one}}, \
                      JSONPatch{op: 'move', from: '/a', path: '/b'}]";
    let wanted = json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": {"n": 1}},
        {"op": "move", "from": "/a", "path": "/b"}]);
    assert_eq!(made(patches(expression)), (vec![Change::Patch(wanted)], vec![]));
}

#[test]
fn what_an_expression_makes_is_checked() {
    for (mutations, error) in [
        (
            applies("Object{spec: Object.wrong{}}"),
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\"",
        ),
        (
            applies("Object{spec: {'a': [Object.other{}]}}"),
            "type mismatch: unexpected type name \"Object.other\", expected \"Object.spec\"",
        ),
        (applies("dyn(object)"), "type mismatch: the expression should evaluate to Object"),
        (applies("dyn(Object.spec{})"), "type mismatch: the expression should evaluate to Object"),
        (applies("Object{a: {1: 2}}"), "a map of the expression has keys that are no strings"),
        (applies("Object{a: 1.0 / 0.0}"), "a number of the expression is not finite"),
        (
            applies("Object{a: variables.broken}"),
            "expression 'Object{a: variables.broken}' resulted in error: variables.broken",
        ),
        (
            patches("dyn([{'op': 'add'}])"),
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch",
        ),
        (patches("[JSONPatch{op: dyn(1), path: '/a'}]"), "unexpected type for JSONPatchType 'op' field"),
    ] {
        let (changes, errors) = made(mutations.clone());
        assert_eq!(changes, [], "{mutations}");
        assert!(matches!(errors.as_slice(), [one] if one.starts_with(error)), "{mutations}: {errors:?}");
    }
}

#[test]
fn an_expression_that_makes_something_else_is_refused() {
    let problems = |mutations| told(&policy_problems(Kind::Mutating, &policy(mutations), &budget()));
    for (mutations, why) in [
        (applies("Subject{}"), "undeclared reference to 'Subject'"),
        (applies("Objects.spec{}"), "undeclared reference to 'Objects.spec'"),
        (applies("[Object{}]"), "must evaluate to Object but got list"),
        (applies("object.metadata.name == 'a'"), "must evaluate to Object but got bool"),
        (patches("Object{}"), "must evaluate to list(JSONPatch) but got Object"),
        (patches("[JSONPatch{verb: 'add'}]"), "undefined field 'verb'"),
        (patches("[JSONPatch{op: 1}]"), "expected type of field 'op' is 'string' but provided type is 'int'"),
    ] {
        let found = problems(mutations.clone());
        assert!(matches!(found.as_slice(), [one] if one.contains(why)), "{mutations}: {found:?}");
    }
    for fine in [
        applies("object.spec.replicas > 1 ? Object{} : Object{spec: Object.spec{}}"),
        patches("[]"),
        patches("object.metadata.labels.map(l, JSONPatch{op: 'remove', path: '/metadata/labels/' + l})"),
    ] {
        assert_eq!(problems(fine.clone()), Vec::<String>::new(), "{fine}");
    }
    let spec = json!({"validations": [{"expression": "Object{} == Object{}"}]});
    let mut validating = policy(json!([]));
    validating["spec"]["validations"] = spec["validations"].clone();
    let found = told(&policy_problems(Kind::Validating, &validating, &budget()));
    assert!(found.iter().any(|one| one.contains("undeclared reference to 'Object'")), "{found:?}");
}
