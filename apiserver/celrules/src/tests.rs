use std::sync::Arc;
use std::time::Duration;

use apimachinery::Cause;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

mod mutations;
mod policies;

fn budget() -> Arc<Budget> {
    Budget::until(Instant::now() + Duration::from_secs(60))
}

/// Of an object whose `spec` has this schema and these rules.
fn schema(spec: Value, rules: Value) -> Value {
    let mut spec = spec;
    spec["type"] = json!("object");
    spec["x-kubernetes-validations"] = rules;
    json!({"type": "object", "properties": {"spec": spec}})
}

fn verdict(schema: &Value, spec: Value, old: Option<Value>) -> Verdict {
    let object =
        |spec: Value| json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec});
    check(&Schema::compile(schema), schema, &object(spec), old.map(object).as_ref(), &budget())
}

fn told(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{} {}: {}", cause.reason, cause.field, cause.message)).collect()
}

/// What is wrong with one rule of a `spec`.
fn wrong(rule: Value) -> Vec<String> {
    let spec = json!({"properties": {
        "text": {"type": "string"}, "number": {"type": "integer"}, "a-b": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let definition = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema(spec, json!([rule]))}}]}});
    told(&definition_problems(&definition, None, &budget()))
}

#[test]
fn rules_of_every_depth_are_evaluated_and_named_by_their_fields() {
    let rule = |rule: &str| json!([{"rule": rule}]);
    let schema = schema(
        json!({"properties": {
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rule("self != 'x'")}},
            "map": {"type": "object", "additionalProperties":
                {"type": "integer", "x-kubernetes-validations": rule("self < 7")}},
            "a-b": {"type": "string", "format": "date-time"},
        }}),
        json!([{"rule": "!has(self.a__dash__b) || self.a__dash__b > timestamp('2020-01-01T00:00:00Z')",
            "message": "too early"}]),
    );
    let spec = json!({"list": ["a", "x"], "map": {"k.l": 9}, "a-b": "2019-01-01T00:00:00Z"});
    assert_eq!(
        told(&verdict(&schema, spec, None).causes),
        [
            "FieldValueInvalid spec: Invalid value: too early",
            "FieldValueInvalid spec.list[1]: Invalid value: \"x\": failed rule: self != 'x'",
            "FieldValueInvalid spec.map[k.l]: Invalid value: 9: failed rule: self < 7",
        ]
    );
    let right = json!({"list": ["a"], "map": {"k": 6}, "a-b": "2021-01-01T00:00:00Z"});
    assert_eq!(verdict(&schema, right, None), Verdict::default());
}

#[test]
fn reasons_fields_and_messages_are_those_of_kubernetes() {
    let schema = schema(
        json!({"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}),
        json!([
            {"rule": "self.a == 1", "reason": "FieldValueDuplicate", "fieldPath": ".a"},
            {"rule": "self.b == 1", "reason": "FieldValueForbidden"},
            {"rule": "self.a / self.b > 0", "messageExpression": "'  '"},
            {"rule": "self.b == 1 || self.b == 2", "messageExpression": "string(self.a / 0)", "message": "fallback"},
            {"rule": "self.a < 2", "messageExpression": "'a is ' + string(self.a)"},
        ]),
    );
    let found = verdict(&schema, json!({"a": 2, "b": 0}), None);
    assert_eq!(
        told(&found.causes),
        [
            "FieldValueDuplicate spec.a: Duplicate value: 2",
            "FieldValueForbidden spec: Forbidden: failed rule: self.b == 1",
            "FieldValueInvalid spec: Invalid value: \"object\": division by zero evaluating rule: self.a / self.b > 0",
            "FieldValueInvalid spec: Invalid value: fallback",
            "FieldValueInvalid spec: Invalid value: a is 2",
        ]
    );
    let missing = verdict(&schema, json!({"a": 1}), None);
    assert!(told(&missing.causes)[0].ends_with("no such key: b evaluating rule: self.b == 1"), "{missing:?}");
}

#[test]
fn transition_rules_look_at_the_same_item_of_a_keyed_list_and_at_nothing_new() {
    let items = json!({"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "no less"}]}}});
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": items});
    let schema = schema(
        json!({"properties": {"k": list, "first": {"type": "integer", "x-kubernetes-validations":
            [{"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": true, "message": "begins at 1"}]}}}),
        json!([]),
    );
    let old = json!({"k": [{"n": "a", "v": 4}, {"n": "b", "v": 5}], "first": 1});
    let new = json!({"k": [{"n": "b", "v": 3}, {"n": "a", "v": 4}, {"n": "c", "v": 0}], "first": 9});
    let found = verdict(&schema, new, Some(old));
    assert_eq!(told(&found.causes), ["FieldValueInvalid spec.k[0].v: Invalid value: 3: no less"]);
    let found = verdict(&schema, json!({"first": 9}), None);
    assert_eq!(told(&found.causes), ["FieldValueInvalid spec.first: Invalid value: 9: begins at 1"]);
}

#[test]
fn what_did_not_change_may_stay_wrong_and_is_told() {
    let schema = schema(
        json!({"properties": {"a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5"}]},
            "b": {"type": "integer"}}}),
        json!([]),
    );
    let kept = verdict(&schema, json!({"a": 9, "b": 2}), Some(json!({"a": 9, "b": 1})));
    assert_eq!((kept.causes.len(), kept.kept.len()), (0, 1));
    let changed = verdict(&schema, json!({"a": 8}), Some(json!({"a": 9})));
    assert_eq!((changed.causes.len(), changed.kept.len()), (1, 0));
}

#[test]
fn a_definition_whose_rules_do_not_compile_is_told_where() {
    let field = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    let found = wrong(json!({"rule": "self.nothing > 1"}));
    let value = "{\"Rule\":\"self.nothing \\u003e 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\
                 \"FieldPath\":\"\",\"OptionalOldSelf\":null}";
    let why = "ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing > 1\n | ....^";
    assert_eq!(
        found,
        [format!("FieldValueInvalid {field}.rule: Invalid value: {value}: compilation failed: {why}")]
    );
    for (rule, part, told) in [
        ("self.text >", "rule", "compilation failed: ERROR: <input>:1:"),
        ("self.text > 1", "rule", "found no matching overload for '_>_' applied to '(string, int)'"),
        ("self.text", "rule", "cel expression must evaluate to a bool"),
        ("foo(self.text)", "rule", "undeclared reference to 'foo'"),
        ("foo == 1", "rule", "undeclared reference to 'foo'"),
        ("request.name == 'a'", "rule", "undeclared reference to 'request'"),
        ("", "rule", "rule is not specified"),
        ("self.text.b == 1", "rule", "type 'string' does not support field selection"),
        ("has(self.nothing)", "rule", "undefined field 'nothing'"),
        ("self.?nothing.orValue(1) == 1", "rule", "undefined field 'nothing'"),
        ("self.list.all(x, x.nothing == 'a')", "rule", "undefined field 'nothing'"),
        ("self.list[0].nothing == 'a'", "rule", "undefined field 'nothing'"),
        ("self.list.filter(x, true).exists(y, self.nothing)", "rule", "undefined field 'nothing'"),
        ("self.text.matches('[')", "rule", "invalid matches argument"),
        ("K{a: 1} == self", "rule", "undeclared reference to 'K'"),
    ] {
        let found = wrong(json!({"rule": rule}));
        assert!(
            found.iter().any(|line| line.contains(&format!("{field}.{part}")) && line.contains(told)),
            "{rule}: {found:?}"
        );
    }
    for (more, told) in [
        (json!({"messageExpression": "self.nothing"}), "messageExpression compilation failed"),
        (json!({"messageExpression": "self.number"}), "messageExpression must evaluate to a string"),
        (json!({"message": "a\nb"}), "must not contain line breaks"),
        (json!({"message": " "}), "must be non-empty if specified"),
        (json!({"reason": "No"}), "supported values: \"FieldValueDuplicate\""),
        (json!({"fieldPath": ".nothing"}), "must be a valid path"),
        (json!({"fieldPath": "text"}), "must be a valid path"),
        (json!({"optionalOldSelf": true}), "may not be set if oldSelf is not used in rule"),
    ] {
        let mut rule = more;
        rule["rule"] = json!("true");
        let found = wrong(rule.clone());
        assert!(found.iter().any(|line| line.contains(told)), "{rule}: {found:?}");
    }
}

#[test]
fn rules_that_kubernetes_takes_are_taken() {
    for rule in [
        "self.list.all(x, x.name.startsWith('a'))",
        "self.list.map(x, x.name).exists(n, n == self.text)",
        "self.map.all(k, self.map[k] != '' && k.size() < 5)",
        "self.map.a == 'b' && 'a' in self.map",
        "self.open.anything == 1",
        "self.a__dash__b.lowerAscii() == 'x' || has(self.number)",
        "self.number > 1.5 && self.number == oldSelf.number",
        "cel.bind(n, size(self.list), n < 3 && n > 0)",
        "dyn(self.number) == 1",
        "math.greatest(1, self.number) < 5 && quantity('1Gi').isGreaterThan(quantity('1Mi'))",
        "self.text.replace('a', 'b', -1) == self.list.map(x, x.name).join(',') && lists.range(3) == [0, 1, 2]",
        "self.?text.orValue('') != '' && sets.contains(['a'], [self.text])",
        "ip(self.text).family() == 4 && url(self.text).getHost() == 'h' && isSemver(self.text)",
        "duration('1h') > duration('1m') && type(self.text) == string",
    ] {
        let found = wrong(json!({"rule": rule}));
        assert!(found.is_empty(), "{rule}: {found:?}");
    }
}

#[test]
fn the_size_of_a_text_is_its_characters() {
    let schema = schema(
        json!({"properties": {"t": {"type": "string"}}}),
        json!([{"rule": "size(self.t) == 2 && self.t.size() == 2"}]),
    );
    assert_eq!(verdict(&schema, json!({"t": "äö"}), None), Verdict::default());
    assert_eq!(verdict(&schema, json!({"t": "äöü"}), None).causes.len(), 1);
}

#[test]
fn int_or_string_is_told_by_its_type() {
    let port = json!({"x-kubernetes-int-or-string": true, "x-kubernetes-validations":
        [{"rule": "type(self) == int ? self < 1000 : type(self) == string && self != ''"}]});
    let schema = schema(json!({"properties": {"port": port}}), json!([]));
    for (port, is_right) in
        [(json!(80), true), (json!("http"), true), (json!(1000), false), (json!(""), false)]
    {
        let found = verdict(&schema, json!({"port": port}), None);
        assert_eq!(found.causes.is_empty(), is_right, "{found:?}");
    }
}

#[test]
fn loops_that_may_be_far_too_long_are_refused_with_the_definition() {
    for (rule, is_refused) in [
        ("self.list.all(x, self.list.exists(y, x == y))", true),
        ("self.list.all(x, self.list.all(y, self.map.all(z, z == x.name)))", true),
        ("self.list.all(x, x.name == 'a')", false),
        ("[1, 2, 3].all(x, [1, 2, 3].exists(y, x == y))", false),
    ] {
        let found = wrong(json!({"rule": rule}));
        let told = "estimated rule cost exceeds budget by factor of more than 100x";
        assert_eq!(found.iter().any(|line| line.contains(told)), is_refused, "{rule}: {found:?}");
    }
}

#[test]
fn a_rule_in_lists_within_lists_runs_as_often_as_a_request_has_room_for() {
    let inner = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "has(self.a) || has(self.b)"}]});
    let middle = json!({"type": "object", "properties": {"inner": {"type": "array", "items": inner}}});
    let schema = schema(json!({"properties": {"list": {"type": "array", "items": middle}}}), json!([]));
    let definition = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
    assert_eq!(told(&definition_problems(&definition, None, &budget())), Vec::<String>::new());
}

#[test]
fn old_values_are_not_asked_for_where_they_are_not_known() {
    let items = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]});
    let schema = schema(json!({"properties": {"s": {"type": "array", "items": items}}}), json!([]));
    let definition = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
    let found = told(&definition_problems(&definition, None, &budget()));
    assert!(
        found[0].ends_with(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within \
             spec.validation.openAPIV3Schema.properties[spec].properties[s]"
        ),
        "{found:?}"
    );
    assert_eq!(definition_problems(&definition, Some(&definition), &budget()), [], "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_does_not_end_is_ended_and_named_and_others_go_on() {
    let runner = Arc::new(Runner::default());
    let schema = Arc::new(schema(
        json!({"properties": {"l": {"type": "array", "items": {"type": "integer"}}}}),
        json!([{"rule": "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d >= 0)))) || true"}]),
    ));
    let slow = |schema: Arc<Value>| {
        move |budget: &Arc<Budget>| {
            let numbers: Vec<u32> = (0..2000).collect();
            let object = json!({"metadata": {}, "spec": {"l": numbers}});
            check(&Schema::compile(&schema), &schema, &object, None, budget)
        }
    };
    let running: Vec<_> = (0..8)
        .map(|_| {
            let (runner, schema) = (runner.clone(), schema.clone());
            tokio::spawn(async move { runner.evaluate(slow(schema)).await })
        })
        .collect();
    // Tasks of the runtime are not held up.
    tokio::task::yield_now().await;
    for late in running {
        match late.await.unwrap() {
            Err(Late::Slow(rule)) => assert!(rule.starts_with("self.l.all("), "{rule}"),
            Err(Late::Busy(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    // The threads have ended, or end at the next turn of their loops.
    assert_eq!(runner.compile(|_| 1).await, Ok(1));
    let mut last = runner.evaluate(|_| 1).await;
    while last.is_err() {
        last = runner.evaluate(|_| 1).await;
    }
    assert_eq!(last, Ok(1));
}

#[tokio::test]
async fn values_do_not_grow_beyond_a_few_megabytes() {
    let big = "a".repeat(1024 * 1024);
    let texts = vec![big.clone(); 3];
    let spec = json!({"big": big, "texts": texts, "n": 1_000_000_000_000u64});
    let runner = Runner::default();
    for (rule, is_late) in [
        ("self.big.replace('a', self.big) != ''", false),
        ("self.texts.join(self.texts.join(self.big)) != ''", false),
        ("lists.range(self.n).size() > 0", false),
        ("[1,2,3,4,5].map(a, self.texts.map(b, self.texts.map(c, b + c))).size() == 0", true),
    ] {
        let open = json!({"x-kubernetes-preserve-unknown-fields": true});
        let schema = schema(open, json!([{"rule": rule}]));
        let object = json!({"metadata": {}, "spec": spec});
        let check = move |budget: &_| check(&Schema::compile(&schema), &schema, &object, None, budget);
        match runner.evaluate(check).await {
            Ok(verdict) if !is_late => {
                assert!(told(&verdict.causes)[0].contains("the result is larger"), "{rule}: {verdict:?}")
            }
            Err(Late::Slow(_)) if is_late => {}
            other => panic!("{rule}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_failure_of_the_library_is_an_error_and_takes_nothing_with_it() {
    let runner = Runner::default();
    let failed = runner.evaluate(|_| -> u8 { panic!("as if the library had") }).await;
    assert_eq!(failed, Err(Late::Failed(String::new())));
    assert_eq!(runner.evaluate(|_| 1).await, Ok(1));
}

#[tokio::test]
async fn expressions_that_are_long_or_deep_are_refused_or_taken_but_break_nothing() {
    let runner = Runner::default();
    let deep = [
        format!("{}1 > 0{}", "(".repeat(5000), ")".repeat(5000)),
        format!("{}true", "!".repeat(10_000)),
        format!("1{} > 0", " + 1".repeat(4000)),
        format!("self{} == 1", ".a".repeat(6000)),
        format!("self{} == 1", "[0]".repeat(5000)),
        format!("{}1{} == []", "[".repeat(5000), "]".repeat(5000)),
        format!("true{}", " && true".repeat(2000)),
        format!("{}1", "true ? 1 : ".repeat(1400)),
        format!("'{}' == ''", "a".repeat(20_000)),
        format!("'a'{} == ''", ".trim()".repeat(2000)),
        "[1].all(a, ".repeat(1000) + "true" + &")".repeat(1000),
        "\u{0}\u{fffd}'".to_owned(),
    ];
    for text in deep {
        let begins: String = text.chars().take(30).collect();
        let found = runner.compile(move |_| wrong(json!({"rule": text}))).await;
        assert!(found.is_ok(), "{begins}: {found:?}");
    }
}
