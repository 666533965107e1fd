use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::Status;

fn asked<'a>(operation: Operation, group: &'a str, resource: &'a str, subresource: &'a str) -> Asked<'a> {
    Asked {
        operation,
        group,
        version: "v1",
        resource,
        subresource,
        name: "",
        namespaced: resource != "nodes",
    }
}

fn rule(operations: &[&str], groups: &[&str], resources: &[&str], scope: &str) -> Rule {
    Rule::read(&json!({"operations": operations, "apiGroups": groups, "apiVersions": ["v1"],
        "resources": resources, "scope": scope}))
}

#[test]
fn rules_match_by_operation_group_version_resource_and_scope() {
    let pods = asked(Operation::Create, "", "pods", "");
    let status = asked(Operation::Update, "", "pods", "status");
    let nodes = asked(Operation::Create, "", "nodes", "");
    for (rule, matched) in [
        (rule(&["CREATE"], &[""], &["pods"], "*"), [true, false, false]),
        (rule(&["*"], &["*"], &["pods"], "*"), [true, false, false]),
        (rule(&["*"], &["*"], &["*"], "*"), [true, false, true]),
        (rule(&["*"], &["*"], &["*/*"], "*"), [true, true, true]),
        (rule(&["*"], &["*"], &["pods/*"], "*"), [true, true, false]),
        (rule(&["*"], &["*"], &["pods/status"], "*"), [false, true, false]),
        (rule(&["*"], &["*"], &["*/status"], "*"), [false, true, false]),
        (rule(&["DELETE"], &["*"], &["*/*"], "*"), [false, false, false]),
        (rule(&["*"], &["apps"], &["*/*"], "*"), [false, false, false]),
        (rule(&["*"], &["*"], &["*/*"], "Cluster"), [false, false, true]),
        (rule(&["*"], &["*"], &["*/*"], "Namespaced"), [true, true, false]),
    ] {
        assert_eq!([pods, status, nodes].map(|asked| rule.matches(&asked)), matched, "{rule:?}");
    }
    let other = Asked { version: "v2", ..pods };
    assert!(!rule(&["*"], &["*"], &["*"], "*").matches(&other));
}

fn minimal() -> Value {
    json!({"name": "a.b.c", "clientConfig": {"url": "https://h/p"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]})
}

fn configured(phase: Phase, hooks: &[Value]) -> Value {
    let mut configuration = json!({"webhooks": hooks});
    complete(phase, &mut configuration);
    configuration
}

#[test]
fn what_a_configuration_leaves_out_is_as_in_kubernetes() {
    let configuration = configured(Phase::Mutating, &[minimal()]);
    assert_eq!(problems(Phase::Mutating, &configuration), []);
    let hook = &configuration["webhooks"][0];
    assert_eq!(
        (&hook["failurePolicy"], &hook["matchPolicy"], &hook["timeoutSeconds"], &hook["reinvocationPolicy"]),
        (&json!("Fail"), &json!("Equivalent"), &json!(10), &json!("Never"))
    );
    assert_eq!(hook["rules"][0]["scope"], "*");
    let read = read(&configuration);
    assert_eq!(read[0].timeout, Duration::from_secs(10));
    assert!(!read[0].fails_open && read[0].matching.equivalent && !read[0].again && read[0].ca.is_empty());
    let validating = configured(Phase::Validating, &[minimal()]);
    assert!(validating["webhooks"][0]["reinvocationPolicy"].is_null());
    assert_eq!(problems(Phase::Validating, &validating), []);
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_field_by_field() {
    let service = |field: &str, value: Value| {
        let mut service = json!({"namespace": "n", "name": "s"});
        service[field] = value;
        json!({"service": service})
    };
    for (field, value, path) in [
        ("name", json!("a.b"), "name"),
        ("name", Value::Null, "name"),
        ("sideEffects", json!("Some"), "sideEffects"),
        ("sideEffects", Value::Null, "sideEffects"),
        ("failurePolicy", json!("Maybe"), "failurePolicy"),
        ("matchPolicy", json!("Nearly"), "matchPolicy"),
        ("reinvocationPolicy", json!("Always"), "reinvocationPolicy"),
        ("timeoutSeconds", json!(0), "timeoutSeconds"),
        ("timeoutSeconds", json!(31), "timeoutSeconds"),
        ("admissionReviewVersions", json!([]), "admissionReviewVersions"),
        ("admissionReviewVersions", json!(["v1beta1"]), "admissionReviewVersions"),
        ("clientConfig", json!({}), "clientConfig"),
        (
            "clientConfig",
            json!({"url": "https://h", "service": {"namespace": "n", "name": "s"}}),
            "clientConfig",
        ),
        ("clientConfig", json!({"url": "http://h"}), "clientConfig.url"),
        ("clientConfig", json!({"url": "https://h", "caBundle": "?"}), "clientConfig.caBundle"),
        ("clientConfig", service("name", json!("")), "clientConfig.service.name"),
        ("clientConfig", service("namespace", json!("a/b")), "clientConfig.service.namespace"),
        ("clientConfig", service("path", json!("p")), "clientConfig.service.path"),
        ("clientConfig", service("port", json!(70_000)), "clientConfig.service.port"),
        (
            "objectSelector",
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "objectSelector.matchExpressions[0].values",
        ),
        (
            "rules",
            json!([{"operations": ["READ"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]),
            "rules[0].operations[0]",
        ),
        (
            "rules",
            json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": []}]),
            "rules[0].resources",
        ),
        (
            "rules",
            json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            "scope": "All"}]),
            "rules[0].scope",
        ),
    ] {
        let mut hook = minimal();
        hook[field] = value.clone();
        let causes = problems(Phase::Mutating, &configured(Phase::Mutating, &[hook]));
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(fields, [format!("webhooks[0].{path}")], "{field}: {value}");
    }
    let twice = configured(Phase::Validating, &[minimal(), minimal()]);
    assert_eq!(problems(Phase::Validating, &twice)[0].field, "webhooks[1].name");
}

#[test]
fn urls_are_https_and_nothing_but_a_host_and_a_path() {
    let url = |host: &str, port, path: &str| Ok(Url { host: host.to_owned(), port, path: path.to_owned() });
    assert_eq!(Url::parse("https://a.example"), url("a.example", 443, "/"));
    assert_eq!(Url::parse("https://10.0.0.5:10005/mutate/pods"), url("10.0.0.5", 10005, "/mutate/pods"));
    assert_eq!(Url::parse("https://[fd00::1]:9/x"), url("fd00::1", 9, "/x"));
    for (text, error) in [
        ("http://a", UrlError::Scheme),
        ("a", UrlError::Scheme),
        ("https://", UrlError::Host),
        ("https:///x", UrlError::Host),
        ("https://u@h", UrlError::User),
        ("https://h?x=1", UrlError::Query),
        ("https://h#x", UrlError::Fragment),
        ("https://h:0", UrlError::Port),
        ("https://h:99999", UrlError::Port),
        ("https://h/a b", UrlError::Characters),
    ] {
        assert_eq!(Url::parse(text), Err(error), "{text}");
    }
}

#[test]
fn an_answer_reads_back_as_it_was_given() {
    let patch = json!([{"op": "add", "path": "/a", "value": 1}]);
    for verdict in
        [Verdict::Allowed, Verdict::Patched(patch), Verdict::Denied(Status::new(409, "Conflict", "not now"))]
    {
        let answer = Answer { warnings: vec!["mind".to_owned()], verdict };
        assert_eq!(Answer::read(&answer.to_json("u"), "u", Phase::Mutating), Ok(answer));
    }
}

#[test]
fn what_is_no_answer_to_the_question_is_told() {
    let read = |response: Value, phase| {
        Answer::read(
            &json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
            "u",
            phase,
        )
    };
    let error = |response: Value, phase| read(response, phase).unwrap_err();
    assert_eq!(error(Value::Null, Phase::Mutating), AnswerError::Absent);
    assert!(matches!(error(json!({"uid": "v", "allowed": true}), Phase::Mutating), AnswerError::Uid { .. }));
    let patched = |kind: Value| json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": kind});
    assert_eq!(error(patched(Value::Null), Phase::Mutating), AnswerError::NoPatchType);
    assert!(matches!(error(patched(json!("Merge")), Phase::Mutating), AnswerError::PatchType(_)));
    assert_eq!(error(patched(json!("JSONPatch")), Phase::Validating), AnswerError::ValidatingPatch);
    let no_patch = json!({"uid": "u", "allowed": true, "patch": "?", "patchType": "JSONPatch"});
    assert!(matches!(error(no_patch, Phase::Mutating), AnswerError::Patch(_)));
    let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"});
    assert!(matches!(Answer::read(&old, "u", Phase::Mutating), Err(AnswerError::Kind { .. })));
}

#[test]
fn a_denial_is_told_with_the_name_of_the_webhook_and_a_code_that_is_one() {
    let denied = |status: Value| {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "u", "allowed": false, "status": status}});
        match Answer::read(&review, "u", Phase::Validating).unwrap().verdict {
            Verdict::Denied(status) => denied_by("a.b.c", status),
            other => panic!("{other:?}"),
        }
    };
    let by = "admission webhook \"a.b.c\" denied the request";
    let told = denied(json!({"code": 403, "message": "no", "reason": "Forbidden"}));
    assert_eq!((told.code, told.message, &*told.reason), (403, format!("{by}: no"), "Forbidden"));
    assert_eq!(denied(json!({"reason": "Because"})).message, format!("{by}: Because"));
    let silent = denied(Value::Null);
    assert_eq!((silent.code, silent.message), (400, format!("{by} without explanation")));
    assert_eq!(denied(json!({"code": 200})).code, 400);
}

#[test]
fn policies_match_by_names_and_leave_out_what_is_excluded() {
    let rule = |names: &[&str]| {
        json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            "resourceNames": names})
    };
    let matching = json!({"resourceRules": [rule(&[])], "excludeResourceRules": [rule(&["a", "b"])], "matchPolicy": "Exact"});
    let matching = Matching::of_policy(&matching).unwrap();
    for (name, excluded) in [("a", true), ("b", true), ("c", false), ("", false)] {
        let pods = Asked { name, ..asked(Operation::Create, "", "pods", "") };
        assert!(matching.matches(&pods));
        assert_eq!(matching.excludes(&pods), excluded, "{name}");
    }
    assert!(!matching.equivalent);
}
