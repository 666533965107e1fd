//! What is expected against what is there.

use serde_json::Value;

use super::case::Wanted;

/// What does not match, one sentence each.
pub fn mismatches(status: &Value, wanted: &Wanted, fill: &impl Fn(&str) -> String) -> Vec<String> {
    let differs = |(path, wanted): (&String, &Value)| {
        let got = at(status, path);
        (!matches(got, wanted, fill)).then(|| format!("{path}: expected {wanted}, got {got}"))
    };
    wanted.iter().filter_map(differs).collect()
}

/// Follows a path of keys, positions and, in lists of named things, names or types.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('/').fold(value, |value, key| match value {
        Value::Array(items) => {
            let named = |item: &&Value| item["name"] == key || item["type"] == key;
            let position = key.parse::<usize>().ok().and_then(|index| items.get(index));
            items.iter().find(named).or(position).unwrap_or(&Value::Null)
        }
        _ => &value[key],
    })
}

/// A value is equal to what is wanted, or fits `{contains: text}`, `{atLeast: number}`, `{oneOf: [..]}`,
/// `{length: bytes}` or `{present: bool}`. Null is wanted where nothing is to be.
fn matches(got: &Value, wanted: &Value, fill: &impl Fn(&str) -> String) -> bool {
    let matcher =
        wanted.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
    match matcher {
        Some((key, Value::String(part))) if key == "contains" => {
            got.as_str().is_some_and(|text| text.contains(&fill(part)))
        }
        Some((key, least)) if key == "atLeast" => match (got.as_f64(), least.as_f64()) {
            (Some(got), Some(least)) => got >= least,
            _ => false,
        },
        Some((key, Value::Array(choices))) if key == "oneOf" => choices.contains(got),
        Some((key, length)) if key == "length" => {
            got.as_str().map(|text| text.len() as u64) == length.as_u64()
        }
        Some((key, Value::Bool(present))) if key == "present" => got.is_null() != *present,
        _ => match (got, wanted) {
            (Value::String(got), Value::String(wanted)) => *got == fill(wanted),
            _ => got == wanted,
        },
    }
}

/// How many of `wanted` the history shows, in this order; all of them if it is their number.
pub fn passed<'a>(
    history: impl Iterator<Item = &'a Value>,
    wanted: &[Wanted],
    fill: &impl Fn(&str) -> String,
) -> usize {
    let mut seen = 0;
    for status in history {
        while wanted.get(seen).is_some_and(|wanted| mismatches(status, wanted, fill).is_empty()) {
            seen += 1;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(status: Value, wanted: Value) -> usize {
        let wanted: Wanted = serde_json::from_value(wanted).unwrap();
        mismatches(&status, &wanted, &|text| text.replace("<podIP>", "10.0.0.9")).len()
    }

    #[test]
    fn paths_lead_through_names_types_and_positions() {
        let status = json!({"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "a", "restartCount": 2, "state": {"waiting": {"message": "back-off 10s"}}}]});
        let good = json!({"phase": "Running", "conditions/Ready/status": "True", "podIP": "<podIP>",
            "podIPs/0/ip": "10.0.0.9", "containerStatuses/a/restartCount": {"atLeast": 2}, "reason": null,
            "containerStatuses/a/state/waiting/message": {"contains": "back-off"},
            "containerStatuses/a/state/waiting": {"present": true}, "phase/x": null});
        assert_eq!(wrong(status.clone(), good), 0);
        let bad = json!({"phase": "Failed", "conditions/Ready/status": true, "podIPs/1/ip": "10.0.0.9",
            "containerStatuses/a/restartCount": {"atLeast": 3}, "containerStatuses/b/name": "b",
            "containerStatuses/a/state/waiting/message": {"contains": "pull"}, "podIP": null,
            "containerStatuses/a/state/running": {"present": true}});
        assert_eq!(wrong(status, bad), 8);
    }

    #[test]
    fn what_is_passed_is_passed_in_order() {
        let history = ["Pending", "Running", "Failed"].map(|phase| json!({"phase": phase}));
        let wanted = |phases: &[&str]| -> Vec<Wanted> {
            phases.iter().map(|phase| Wanted::from([("phase".to_owned(), json!(phase))])).collect()
        };
        let count = |phases: &[&str]| passed(history.iter(), &wanted(phases), &str::to_owned);
        assert_eq!(count(&["Pending", "Failed"]), 2);
        assert_eq!(count(&["Running", "Pending"]), 1);
        assert_eq!(count(&["Succeeded"]), 0);
    }
}
