//! Policies and bindings.

use serde_json::{Value, json};

use super::{budget, told};
use crate::*;

fn policy(spec: Value) -> Value {
    let mut policy = json!({"metadata": {"name": "p"}, "spec": spec});
    complete(&mut policy);
    policy
}

fn request() -> Request {
    Request {
        object: json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"replicas": 3}}),
        request: json!({"operation": "CREATE", "userInfo": {"username": "u", "groups": ["g"]}, "name": "a"}),
        namespace: json!({"metadata": {"name": "n", "labels": {"env": "prod"}}}),
        ..Request::default()
    }
}

fn messages(spec: Value, params: &[Value]) -> Vec<String> {
    let binding = Binding { name: "b".to_owned(), params: params.to_vec() };
    let outcome = review(&Policy::compile(&policy(spec)), &binding, &request(), &budget());
    outcome.decisions.into_iter().map(|decision| decision.message).collect()
}

#[test]
fn a_policy_sees_the_request_its_parameters_and_the_namespace() {
    for expression in [
        "object.spec.replicas == 3 && oldObject == null",
        "request.operation == 'CREATE' && request.userInfo.username == 'u' && 'g' in request.userInfo.groups",
        "namespaceObject.metadata.labels.env == 'prod'",
        "params.most > object.spec.replicas",
    ] {
        let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "P"}, "validations": [{"expression": expression}]});
        assert_eq!(messages(spec, &[json!({"most": 4})]), Vec::<String>::new(), "{expression}");
    }
}

#[test]
fn variables_are_evaluated_where_they_are_looked_up_and_only_there() {
    let variables = json!([
        {"name": "broken", "expression": "object.nothing.at.all"},
        {"name": "one", "expression": "object.spec.replicas - 2"},
        {"name": "two", "expression": "variables.one + 1"},
    ]);
    let said = |expression: &str| {
        messages(json!({"variables": variables, "validations": [{"expression": expression}]}), &[Value::Null])
    };
    assert_eq!(said("variables.two == 2 && [1].all(x, x == variables.one)"), Vec::<String>::new());
    assert_eq!(said("true || variables.broken"), Vec::<String>::new());
    let told = "expression 'variables.broken == 1' resulted in error: variables.broken: no such key: nothing";
    assert_eq!(said("variables.broken == 1"), [told]);
}

#[test]
fn failure_policies_and_match_conditions_decide_what_becomes_of_errors() {
    let broken = json!([{"expression": "object.nothing == 1"}]);
    let told = "expression 'object.nothing == 1' resulted in error: no such key: nothing";
    assert_eq!(messages(json!({"validations": broken}), &[Value::Null]), [told]);
    let ignored = json!({"failurePolicy": "Ignore", "validations": broken});
    assert_eq!(messages(ignored, &[Value::Null]), Vec::<String>::new());
    let condition = |expression: &str| json!({"name": "c", "expression": expression});
    let spec =
        |conditions: Value| json!({"matchConditions": conditions, "validations": [{"expression": "false"}]});
    let missed = json!([condition("object.nothing == 1"), condition("object.metadata.name == 'b'")]);
    assert_eq!(messages(spec(missed), &[Value::Null]), Vec::<String>::new(), "one is false");
    assert_eq!(messages(spec(json!([condition("object.nothing == 1")])), &[Value::Null]).len(), 1);
    assert_eq!(messages(spec(json!([condition("true")])), &[Value::Null]), ["failed expression: false"]);
}

#[test]
fn what_is_wrong_with_a_policy_is_told_field_by_field() {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods"]});
    let constraints = json!({"resourceRules": [rule]});
    let with = |more: Value| {
        let mut spec = json!({"matchConstraints": constraints, "validations": [{"expression": "true"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told(&policy_problems(Kind::Validating, &policy(spec), &budget()))
    };
    assert_eq!(with(json!({})), Vec::<String>::new());
    for (more, field, why) in [
        (json!({"matchConstraints": null}), "spec.matchConstraints", "Required value"),
        (json!({"failurePolicy": "No"}), "spec.failurePolicy", "supported values: \"Fail\", \"Ignore\""),
        (json!({"validations": []}), "spec.auditAnnotations", "must contain at least one item"),
        (
            json!({"validations": [{"expression": ""}]}),
            "spec.validations[0].expression",
            "expression is not specified",
        ),
        (
            json!({"validations": [{"expression": "object.."}]}),
            "spec.validations[0].expression",
            "compilation failed: ERROR",
        ),
        (
            json!({"validations": [{"expression": "1"}]}),
            "spec.validations[0].expression",
            "must evaluate to bool but got int",
        ),
        (
            json!({"validations": [{"expression": "params.x == 1"}]}),
            "spec.validations[0].expression",
            "undeclared reference to 'params'",
        ),
        (
            json!({"validations": [{"expression": "variables.x == 1"}]}),
            "spec.validations[0].expression",
            "undeclared reference to 'variables'",
        ),
        (
            json!({"validations": [{"expression": "request.x == 1"}]}),
            "spec.validations[0].expression",
            "undefined field 'x'",
        ),
        (
            json!({"validations": [{"expression": "request.userInfo.x == 1"}]}),
            "spec.validations[0].expression",
            "undefined field 'x'",
        ),
        (
            json!({"validations": [{"expression": "namespaceObject.x == 1"}]}),
            "spec.validations[0].expression",
            "undefined field 'x'",
        ),
        (
            json!({"validations": [{"expression": "authorizer.path('/').check('get').allowed()"}]}),
            "spec.validations[0].expression",
            "authorizer is not known to this API server",
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "1"}]}),
            "spec.validations[0].messageExpression",
            "must evaluate to string but got int",
        ),
        (
            json!({"validations": [{"expression": "true", "reason": "No"}]}),
            "spec.validations[0].reason",
            "supported values: \"Forbidden\"",
        ),
        (
            json!({"variables": [{"name": "1", "expression": "true"}]}),
            "spec.variables[0].name",
            "must be a valid CEL identifier",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.c"}]}),
            "spec.variables[1].expression",
            "undefined field 'c'",
        ),
        (
            json!({"matchConditions": [{"name": "", "expression": "1"}]}),
            "spec.matchConditions[0].name",
            "Required value",
        ),
        (
            json!({"paramKind": {"apiVersion": "a/b/c", "kind": "K"}}),
            "spec.paramKind.apiVersion",
            "unexpected GroupVersion string",
        ),
        (
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}),
            "spec.auditAnnotations[0].valueExpression",
            "must evaluate to one of [string null_type] but got int",
        ),
    ] {
        let found = with(more.clone());
        assert!(
            found.iter().any(|line| line.contains(&format!(" {field}: ")) && line.contains(why)),
            "{more}: {found:?}"
        );
    }
}

#[test]
fn what_is_wrong_with_a_binding_is_told_field_by_field() {
    let with = |spec: Value| {
        let mut binding = json!({"metadata": {"name": "b"}, "spec": spec});
        complete(&mut binding);
        told(&binding_problems(Kind::Validating, &binding))
    };
    let right = json!({"policyName": "p", "validationActions": ["Deny"], "matchResources": {}});
    assert_eq!(with(right), Vec::<String>::new());
    for (more, field, why) in [
        (json!({"policyName": ""}), "spec.policyName", "Required value"),
        (json!({"validationActions": []}), "spec.validationActions", "at least one validation action"),
        (json!({"validationActions": ["No"]}), "spec.validationActions[0]", "supported values: \"Audit\""),
        (
            json!({"validationActions": ["Deny", "Deny"]}),
            "spec.validationActions[1]",
            "Duplicate value: \"Deny\"",
        ),
        (json!({"validationActions": ["Deny", "Warn"]}), "spec.validationActions", "must not contain both"),
        (json!({"paramRef": {}}), "spec.paramRef", "one of name or selector"),
        (json!({"paramRef": {"name": "a", "selector": {}}}), "spec.paramRef.selector", "mutually exclusive"),
        (
            json!({"matchResources": {"resourceRules": [{}]}}),
            "spec.matchResources.resourceRules[0].operations",
            "Required value",
        ),
    ] {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = with(spec);
        assert!(
            found.iter().any(|line| line.contains(&format!(" {field}: ")) && line.contains(why)),
            "{more}: {found:?}"
        );
    }
}
