//! What the RuntimeClass of a new pod asks for (`plugin/pkg/admission/runtimeclass`): its overhead, a node selector and
//! tolerations.

use apimachinery::Status;
use apimachinery::object::{as_map, list, map_in, text};
use kubeapi::stored::Key;
use kubeapi::target::Target;
use serde_json::{Value, json};

use crate::context::Context;

const CLASSES: &str = "runtimeclasses.node.k8s.io";

/// Completes a pod by its class. 403 if there is no such class, or if the pod asks for something else.
pub(super) async fn resolve(context: &Context, target: &Target, pod: &mut Value) -> Result<(), Status> {
    let name = text(pod, "/spec/runtimeClassName").to_owned();
    let refused = |why: &str| Status::refused("", "pods", &target.name, why);
    let class = match name.as_str() {
        "" => Value::Null,
        name => match context.storage.get(&Key::new(CLASSES, "", name)).await? {
            Some(stored) => stored.value()?,
            None => return Err(refused(&format!("pod rejected: RuntimeClass {name:?} not found"))),
        },
    };
    fit(&class, pod).map_err(|why| refused(&why))
}

/// `class` is null for a pod that names none.
fn fit(class: &Value, pod: &mut Value) -> Result<(), String> {
    let spec = map_in(as_map(pod), "spec");
    let given = spec.get("overhead").filter(|given| given.as_object().is_some_and(|given| !given.is_empty()));
    match (class.pointer("/overhead/podFixed").filter(|overhead| overhead.is_object()), given) {
        (Some(overhead), Some(given)) if overhead != given => {
            return Err(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned()
            );
        }
        (Some(overhead), _) => drop(spec.insert("overhead".to_owned(), overhead.clone())),
        (None, Some(_)) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(why.to_owned());
        }
        (None, None) => {}
    }
    let wanted = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
    for (key, value) in wanted.into_iter().flatten() {
        let selector = map_in(spec, "nodeSelector");
        if let Some(own) = selector.insert(key.clone(), value.clone()).filter(|own| own != value) {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                word(value),
                word(&own)
            ));
        }
    }
    let more = list(class, "/scheduling/tolerations");
    if !more.is_empty() {
        let own = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
        let all: Vec<Value> = own.into_iter().chain(more.iter().cloned()).collect();
        spec.insert("tolerations".to_owned(), json!(merged(&all)));
    }
    Ok(())
}

/// Without those that others cover; of equal ones the first (`pkg/util/tolerations`).
fn merged(all: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let is_later = all[at + 1..].iter().any(|other| other != one && covers(other, one));
        if !is_later && !merged.iter().any(|other| covers(other, one)) {
            merged.push(one.clone());
        }
    }
    merged
}

fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let same = |field: &str| text(wide, field) == text(narrow, field);
    let exists = text(wide, "/operator") == "Exists";
    let seconds = |of: &Value| of["tolerationSeconds"].as_i64();
    let is_longer = text(wide, "/effect") != "NoExecute"
        || seconds(wide).is_none_or(|wide| seconds(narrow).is_some_and(|narrow| narrow <= wide));
    (same("/key") || (exists && text(wide, "/key").is_empty()))
        && (same("/effect") || text(wide, "/effect").is_empty())
        && is_longer
        && (exists || (text(narrow, "/operator") == "Equal" && same("/value")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_given_what_its_class_asks_for() {
        let class = json!({"overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {"nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k", "operator": "Exists"}]}});
        let mut pod = json!({"spec": {"nodeSelector": {"c": "d"}, "tolerations": [
            {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, {"key": "o", "operator": "Exists"}]}});
        fit(&class, &mut pod).unwrap();
        let wanted = json!({"overhead": {"cpu": "10m"}, "nodeSelector": {"a": "b", "c": "d"},
            "tolerations": [{"key": "o", "operator": "Exists"}, {"key": "k", "operator": "Exists"}]});
        assert_eq!(pod["spec"], wanted);
        fit(&class, &mut pod).unwrap();
        assert_eq!(pod["spec"], wanted);
    }

    #[test]
    fn a_pod_that_asks_for_something_else_is_refused() {
        let class =
            json!({"overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {"nodeSelector": {"a": "b"}}});
        for spec in [json!({"overhead": {"cpu": "20m"}}), json!({"nodeSelector": {"a": "c"}})] {
            assert!(fit(&class, &mut json!({ "spec": spec })).is_err(), "{spec}");
        }
        assert!(fit(&Value::Null, &mut json!({"spec": {"overhead": {"cpu": "20m"}}})).is_err());
        assert!(fit(&Value::Null, &mut json!({"spec": {}})).is_ok());
    }
}
