//! One container.

use serde_json::{Value, json};

use super::{choice, handlers, is_given, mounts, optional_choice, ports};
use crate::object::{list, text};
use crate::{Cause, quantity};

pub(super) fn check(at: &str, container: &Value, volumes: &[String], causes: &mut Vec<Cause>) {
    match container.get("image").and_then(Value::as_str).unwrap_or_default() {
        "" => causes.push(Cause::required(format!("{at}.image"), "")),
        image if image.trim() != image => {
            let detail = "must not have leading or trailing whitespace";
            causes.push(Cause::invalid(format!("{at}.image"), &json!(image), detail));
        }
        _ => {}
    }
    choice(at, container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], causes);
    optional_choice(at, container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], causes);
    optional_choice(at, container, "restartPolicy", &["Always", "Never", "OnFailure"], causes);
    ports::check(at, container, causes);
    environment(at, container, causes);
    mounts::check(at, container, volumes, causes);
    handlers::check(at, container, causes);
    resources(at, container, causes);
}

fn environment(at: &str, container: &Value, causes: &mut Vec<Cause>) {
    for (index, entry) in list(container, "/env").iter().enumerate() {
        let at = format!("{at}.env[{index}]");
        match text(entry, "/name") {
            "" => causes.push(Cause::required(format!("{at}.name"), "")),
            name if !is_variable(name) => {
                let detail = "a valid environment variable name must consist only of printable ASCII characters \
                    other than '='";
                causes.push(Cause::invalid(format!("{at}.name"), &json!(name), detail));
            }
            _ => {}
        }
        if entry.get("value").is_some_and(|value| !value.is_string() && !value.is_null()) {
            causes.push(Cause::type_invalid(format!("{at}.value"), &entry["value"], "must be a string"));
        }
        if is_given(entry, "valueFrom") && !text(entry, "/value").is_empty() {
            let detail = "may not be specified when `value` is not empty";
            causes.push(Cause::invalid(format!("{at}.valueFrom"), &json!(""), detail));
        }
    }
}

/// Kubernetes' widest rule for names of variables (relaxed since 1.30).
fn is_variable(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
}

fn resources(at: &str, container: &Value, causes: &mut Vec<Cause>) {
    let amounts = |kind: &str| container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
    let milli = |amount: &Value| match amount.as_str() {
        Some(text) => quantity::milli(text),
        None => quantity::milli(&amount.to_string()),
    };
    for kind in ["limits", "requests"] {
        for (resource, amount) in amounts(kind).into_iter().flatten() {
            if milli(amount).is_none_or(|amount| amount < 0) {
                let field = format!("{at}.resources.{kind}[{resource}]");
                causes.push(Cause::invalid(field, amount, "must be a quantity, greater than or equal to 0"));
            }
        }
    }
    for (resource, request) in amounts("requests").into_iter().flatten() {
        let Some(limit) = amounts("limits").and_then(|limits| limits.get(resource)) else { continue };
        if milli(request).zip(milli(limit)).is_some_and(|(request, limit)| request > limit) {
            let limit = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            let detail = format!("must be less than or equal to {resource} limit of {limit}");
            causes.push(Cause::invalid(format!("{at}.resources.requests"), request, &detail));
        }
    }
}
