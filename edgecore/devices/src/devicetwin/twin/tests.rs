use super::*;

fn update(twins: &mut Twins, text: &str, now: i64) -> Result<UpdateOutcome, TwinRefusal> {
    twins.update(&serde_json::from_str(text).unwrap(), &Declared::new(), now)
}

#[test]
fn a_recorded_update_gives_the_recorded_result_and_document() {
    let mut twins = Twins::default();
    let first = r#"{"temperature":{"actual":{"value":"36.6"},"metadata":{"type":"string"}}}"#;
    let outcome = update(&mut twins, first, 1795222427820).unwrap();
    let written = r#"{"temperature":{"actual":{"value":"36.6","metadata":{"timestamp":1795222427820}},"optional":true,"metadata":{"type":"string"}}}"#;
    assert_eq!(Value::Object(outcome.result(&twins)), serde_json::from_str::<Value>(written).unwrap());
    let second = first.replace("36.6", "37.1");
    let outcome = update(&mut twins, &second, 1795222444904).unwrap();
    let written = r#"{"temperature":{"last":{"actual":{"value":"36.6","metadata":{"timestamp":1795222427820}},"optional":true,"metadata":{"type":"string"}},"current":{"actual":{"value":"37.1","metadata":{"timestamp":1795222444904}},"optional":true,"metadata":{"type":"string"}}}}"#;
    assert_eq!(Value::Object(outcome.document(&twins)), serde_json::from_str::<Value>(written).unwrap());
    let report = &twins.report()["temperature"];
    assert_eq!(report["actual_version"], json!({"cloud": 0, "edge": 2}));
}

#[test]
fn an_unchanged_value_is_no_change_and_a_bad_one_changes_nothing() {
    let mut twins = Twins::default();
    let text = r#"{"n":{"actual":{"value":"1"},"metadata":{"type":"int"}}}"#;
    assert_eq!(update(&mut twins, text, 1).unwrap().changed(&twins), [("n".to_owned(), None)]);
    assert!(update(&mut twins, text, 2).unwrap().changed(&twins).is_empty());
    for bad in [
        r#"{"n":{"actual":{"value":"x"}}}"#,
        r#"{"ok":{"actual":{"value":"1"}},"bad name":{"actual":{"value":"1"}}}"#,
        r#"{"n":{"actual":{}}}"#,
        r#"{"new":{}}"#,
    ] {
        assert_eq!(update(&mut twins, bad, 3).unwrap_err().code, 400, "{bad}");
    }
    assert_eq!(twins.0.len(), 1);
    assert_eq!(twins.0["n"].actual.as_ref().unwrap().at, 1);
}

#[test]
fn a_type_without_a_meaning_is_that_of_text() {
    let mut twins = Twins::default();
    let text = r#"{"x":{"actual":{"value":"1"},"metadata":{"type":"Updated"}}}"#;
    let outcome = update(&mut twins, text, 1).unwrap();
    assert_eq!(outcome.result(&twins)["x"]["actual"]["value"], "1");
    assert_eq!(twins.report()["x"]["metadata"]["type"], "string");
    update(&mut twins, &text.replace("\"1\"", "\"two\""), 2).unwrap();
    let deleted = text.replace("Updated", "deleted").replace("\"x\"", "\"y\"");
    assert_eq!(update(&mut twins, &deleted, 3).unwrap_err().code, 400, "a new twin is not a deleted one");
}

#[test]
fn a_desired_value_makes_a_delta_until_the_actual_value_meets_it() {
    let mut twins = Twins::default();
    assert!(twins.desire("setpoint", "60", "int", 1));
    assert!(!twins.desire("setpoint", "60", "int", 2));
    let (shown, delta) = twins.delta().unwrap();
    assert_eq!(delta["setpoint"], "60");
    assert!(shown.contains_key("setpoint"));
    assert!(twins.report().is_empty(), "a desire nobody observed is not reported back");
    update(&mut twins, r#"{"setpoint":{"actual":{"value":"60"}}}"#, 3).unwrap();
    assert!(twins.delta().is_none());
}

#[test]
fn a_deleted_twin_is_gone_from_sight_and_keeps_its_versions() {
    let mut twins = Twins::default();
    update(&mut twins, r#"{"a":{"actual":{"value":"1"}}}"#, 1).unwrap();
    let outcome = update(&mut twins, r#"{"a":null}"#, 2).unwrap();
    assert_eq!(outcome.result(&twins)["a"], Value::Null);
    assert_eq!(outcome.document(&twins)["a"]["current"], Value::Null);
    assert!(twins.documents().is_empty());
    update(&mut twins, r#"{"a":{"actual":{"value":"2"}}}"#, 3).unwrap();
    assert_eq!(twins.0["a"].actual.as_ref().unwrap().version.edge, 3);
}

#[test]
fn a_declared_type_holds_whatever_a_client_calls_its_value() {
    let mut twins = Twins::default();
    let declared = Declared::from([("t".to_owned(), "float")]);
    let mut say = |value: &str, kind: &str| {
        let text = json!({"t": {"actual": {"value": value}, "metadata": {"type": kind}}});
        let outcome = twins.update(&serde_json::from_value(text).unwrap(), &declared, 1);
        outcome.map(|outcome| outcome.changed(&twins).len())
    };
    for (value, kind) in
        [("x", "deleted"), ("1", "deleted"), ("NaN", "float"), ("x", "string"), ("inf", "int")]
    {
        assert_eq!(say(value, kind).unwrap_err().code, 400, "{value} {kind}");
    }
    assert_eq!(say("36.6", "string").unwrap(), 1);
}

#[test]
fn a_mappers_report_is_taken_whole_or_not_at_all() {
    let mut twins = Twins::default();
    let report = |value: &str, kind| Reported { actual: Some(value.to_owned()), observed: None, kind };
    let mut say = |value: &str, kind| {
        let reports = [("a".to_owned(), report("1", None)), ("b".to_owned(), report(value, kind))].into();
        let outcome = twins.reported(&reports, &Declared::new(), 1);
        outcome.map(|outcome| outcome.changed(&twins).len())
    };
    for (value, kind) in
        [("abc", "float"), ("NaN", "float"), ("-inf", "float"), ("x", "int"), ("2", "boolean")]
    {
        assert_eq!(say(value, Some(kind)).unwrap_err().code, 400, "{value} {kind}");
    }
    assert_eq!(say("25.5", Some("int")).unwrap(), 2, "a driver's way to write a number");
    assert_eq!(say("anything", None).unwrap(), 1);
}
