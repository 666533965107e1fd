//! Metrics of v1, as they are in its annotations, and of v2; and behaviour, whose annotation has the names of fields in Go.

use serde_json::{Map, Value, json};

use crate::object::text;

/// (type of a metric, its field)
const TYPES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// That this percentage of the CPU that pods ask for is used.
pub(super) fn cpu(percent: &Value) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// True for what v1 has a field for.
pub(super) fn is_cpu(metric: &Value) -> bool {
    let resource = &metric["resource"];
    text(metric, "/type") == "Resource"
        && text(resource, "/name") == "cpu"
        && !resource["target"]["averageUtilization"].is_null()
}

/// What is wanted of an amount, or what there is of it: names of its fields in v1.
struct Names {
    value: &'static str,
    average: &'static str,
    utilization: &'static str,
    /// v1 always has this field.
    always: Option<&'static str>,
}

fn names(field: &str, is_status: bool) -> Names {
    let names = |value, average, utilization, always| Names { value, average, utilization, always };
    match (field, is_status) {
        ("object", false) => names("targetValue", "averageValue", "", Some("targetValue")),
        ("object", true) => names("currentValue", "averageValue", "", Some("currentValue")),
        ("pods", false) => names("", "targetAverageValue", "", Some("targetAverageValue")),
        ("pods", true) => names("", "currentAverageValue", "", Some("currentAverageValue")),
        ("external", false) => names("targetValue", "targetAverageValue", "", None),
        ("external", true) => names("currentValue", "currentAverageValue", "", Some("currentValue")),
        (_, false) => names("", "targetAverageValue", "targetAverageUtilization", None),
        (_, true) => {
            names("", "currentAverageValue", "currentAverageUtilization", Some("currentAverageValue"))
        }
    }
}

/// The field of v1 for the selector of a metric.
fn selector(field: &str) -> &'static str {
    if field == "external" { "metricSelector" } else { "selector" }
}

fn each(metric: &Value, convert: impl Fn(&str, &Value) -> Value) -> Value {
    let mut made = json!({"type": metric["type"]});
    for (_, field) in TYPES {
        let of = &metric[field];
        if of.is_object() {
            made[field] = convert(field, of);
        }
    }
    made
}

/// Puts a value that there is where `to` has a name for it.
fn put(made: &mut Value, to: &str, value: &Value) {
    if !to.is_empty() && !value.is_null() {
        made[to] = value.clone();
    }
}

/// A metric of v2 in the form of v1; `is_status`: of the current ones.
pub(super) fn to_v1(metric: &Value, is_status: bool) -> Value {
    each(metric, |field, of| {
        let names = names(field, is_status);
        let mut made = json!({});
        put(&mut made, "target", &of["describedObject"]);
        put(&mut made, "name", &of["name"]);
        put(&mut made, "container", &of["container"]);
        put(&mut made, "metricName", &of["metric"]["name"]);
        put(&mut made, selector(field), &of["metric"]["selector"]);
        let amount = &of[if is_status { "current" } else { "target" }];
        put(&mut made, names.value, &amount["value"]);
        put(&mut made, names.average, &amount["averageValue"]);
        put(&mut made, names.utilization, &amount["averageUtilization"]);
        if let Some(always) = names.always.filter(|always| made.get(always).is_none()) {
            made[always] = json!("0");
        }
        made
    })
}

/// A metric of v1 in the form of v2.
pub(super) fn to_v2(metric: &Value, is_status: bool) -> Value {
    each(metric, |field, of| {
        let names = names(field, is_status);
        let mut made = json!({});
        put(&mut made, "describedObject", &of["target"]);
        put(&mut made, "name", &of["name"]);
        put(&mut made, "container", &of["container"]);
        if matches!(field, "object" | "pods" | "external") {
            made["metric"] = json!({"name": of["metricName"]});
            put(&mut made["metric"], "selector", &of[selector(field)]);
        }
        let mut amount = json!({});
        let (value, average) = (&of[names.value], &of[names.average]);
        // v1 cannot leave the value of an object's metric out.
        let is_filled = field == "object" && !is_status && !average.is_null() && value == "0";
        if !is_filled {
            put(&mut amount, "value", value);
        }
        put(&mut amount, "averageValue", average);
        put(&mut amount, "averageUtilization", &of[names.utilization]);
        if is_status {
            made["current"] = amount;
            return made;
        }
        let is_value = match field {
            "object" => average.is_null(),
            "external" => !value.is_null(),
            _ => false,
        };
        let has_utilization = !names.utilization.is_empty() && !of[names.utilization].is_null();
        amount["type"] = json!(match (is_value, has_utilization) {
            (true, _) => "Value",
            (false, true) => "Utilization",
            (false, false) => "AverageValue",
        });
        made["target"] = amount;
        made
    })
}

/// Fields of behaviour, as v2 has them; in Go they begin with a capital.
const FIELDS: [&str; 9] = [
    "scaleUp",
    "scaleDown",
    "stabilizationWindowSeconds",
    "selectPolicy",
    "policies",
    "tolerance",
    "type",
    "value",
    "periodSeconds",
];

fn capital(name: &str) -> String {
    name.chars().take(1).map(|first| first.to_ascii_uppercase()).chain(name.chars().skip(1)).collect()
}

fn renamed(value: &Value, rename: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            let kept = kept.filter_map(|(name, value)| Some((rename(name)?, renamed(value, rename))));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| renamed(item, rename)).collect(),
        other => other.clone(),
    }
}

/// Behaviour with the names of Go, which tells what is not set as null.
pub(super) fn large(behaviour: &Value) -> Value {
    let mut large = renamed(behaviour, &|name| Some(capital(name)));
    for direction in ["ScaleUp", "ScaleDown"] {
        match large.get_mut(direction) {
            None => large[direction] = Value::Null,
            Some(rules) => {
                for field in ["StabilizationWindowSeconds", "SelectPolicy", "Policies", "Tolerance"] {
                    if rules.get(field).is_none() {
                        rules[field] = Value::Null;
                    }
                }
            }
        }
    }
    large
}

/// Behaviour with the names of v2. Names are read in any case, as Go reads them; what is none of them is dropped.
pub(super) fn small(behaviour: &Value) -> Value {
    let known = |name: &str| FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name));
    renamed(behaviour, &|name| known(name).map(|name| (*name).to_owned()))
}
