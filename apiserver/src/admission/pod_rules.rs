//! What a pod spec must have.

use apimachinery::object::{list, text};
use apimachinery::{Cause, names, quantity};
use serde_json::{Value, json};

/// Checks the pod spec found at `path`.
pub(super) fn problems(path: &str, spec: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !spec.is_object() {
        return vec![Cause::required(path, "")];
    }
    let volumes = volumes(path, spec, &mut causes);
    if list(spec, "/containers").is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut seen = Vec::new();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        if spec.get(field).is_some_and(|value| !value.is_array() && !value.is_null()) {
            causes.push(Cause::type_invalid(format!("{path}.{field}"), &spec[field], "must be a list"));
        }
        for (at, container) in list(spec, &format!("/{field}")).iter().enumerate() {
            let at = format!("{path}.{field}[{at}]");
            name(&at, container, &mut seen, &mut causes);
            self::container(&at, container, &volumes, &mut causes);
        }
    }
    let choices: [(&str, &[&str]); 2] = [
        ("restartPolicy", &["Always", "OnFailure", "Never"]),
        ("dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    ];
    for (field, allowed) in choices {
        let value = text(spec, &format!("/{field}"));
        if !allowed.contains(&value) {
            causes.push(Cause::unsupported(format!("{path}.{field}"), &json!(value), allowed));
        }
    }
    let grace = &spec["terminationGracePeriodSeconds"];
    if !grace.is_null() && grace.as_i64().is_none_or(|seconds| seconds < 0) {
        let detail = "must be greater than or equal to 0";
        causes.push(Cause::invalid(format!("{path}.terminationGracePeriodSeconds"), grace, detail));
    }
    causes
}

fn name(at: &str, item: &Value, seen: &mut Vec<String>, causes: &mut Vec<Cause>) {
    let name = text(item, "/name");
    let field = format!("{at}.name");
    if name.is_empty() {
        causes.push(Cause::required(field, ""));
    } else if let Some(why) = names::label(name) {
        causes.push(Cause::invalid(field, &json!(name), &why));
    } else if seen.iter().any(|other| other == name) {
        causes.push(Cause::duplicate(field, &json!(name)));
    }
    seen.push(name.to_owned());
}

fn volumes(path: &str, spec: &Value, causes: &mut Vec<Cause>) -> Vec<String> {
    let mut seen = Vec::new();
    for (at, volume) in list(spec, "/volumes").iter().enumerate() {
        name(&format!("{path}.volumes[{at}]"), volume, &mut seen, causes);
    }
    seen
}

fn container(at: &str, container: &Value, volumes: &[String], causes: &mut Vec<Cause>) {
    match container.get("image").and_then(Value::as_str).unwrap_or_default() {
        "" => causes.push(Cause::required(format!("{at}.image"), "")),
        image if image.trim() != image => {
            let detail = "must not have leading or trailing whitespace";
            causes.push(Cause::invalid(format!("{at}.image"), &json!(image), detail));
        }
        _ => {}
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    let policy = text(container, "/imagePullPolicy");
    if !policies.contains(&policy) {
        causes.push(Cause::unsupported(format!("{at}.imagePullPolicy"), &json!(policy), &policies));
    }
    for (index, port) in list(container, "/ports").iter().enumerate() {
        let number = port["containerPort"].as_i64();
        if number.is_none_or(|number| !(1..=65_535).contains(&number)) {
            let detail = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(
                format!("{at}.ports[{index}].containerPort"),
                &port["containerPort"],
                detail,
            ));
        }
    }
    for (index, entry) in list(container, "/env").iter().enumerate() {
        if text(entry, "/name").is_empty() {
            causes.push(Cause::required(format!("{at}.env[{index}].name"), ""));
        }
        if entry.get("value").is_some_and(|value| !value.is_string() && !value.is_null()) {
            causes.push(Cause::type_invalid(
                format!("{at}.env[{index}].value"),
                &entry["value"],
                "must be a string",
            ));
        }
    }
    let mut paths = Vec::new();
    for (index, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let (volume, path) = (text(mount, "/name"), text(mount, "/mountPath"));
        if !volumes.iter().any(|known| known == volume) {
            let cause = Cause {
                reason: "FieldValueNotFound",
                message: format!("Not found: {volume:?}"),
                field: format!("{at}.volumeMounts[{index}].name"),
            };
            causes.push(cause);
        }
        if path.is_empty() {
            causes.push(Cause::required(format!("{at}.volumeMounts[{index}].mountPath"), ""));
        } else if paths.contains(&path) {
            let detail = "must be unique";
            causes.push(Cause::invalid(
                format!("{at}.volumeMounts[{index}].mountPath"),
                &json!(path),
                detail,
            ));
        }
        paths.push(path);
    }
    for kind in ["limits", "requests"] {
        let amounts = container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
        for (resource, amount) in amounts.into_iter().flatten() {
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            if quantity::milli(&text).is_none_or(|amount| amount < 0) {
                let field = format!("{at}.resources.{kind}[{resource}]");
                causes.push(Cause::invalid(field, amount, "must be a quantity, greater than or equal to 0"));
            }
        }
    }
}
