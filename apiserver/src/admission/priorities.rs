//! Priorities of new pods, from their classes (`plugin/pkg/admission/priority`).

use apimachinery::Status;
use apimachinery::object::{as_map, integer, map_in, text};
use serde_json::{Value, json};

use crate::context::Context;
use kubeapi::stored::{Key, ListQuery};
use kubeapi::target::Target;

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
/// Classes that every cluster has.
const SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const USUAL: &str = "PreemptLowerPriority";

/// A class as far as pods are concerned.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

/// Gives a pod the priority of its class, or of the class that is the default.
pub(super) async fn resolve(context: &Context, target: &Target, pod: &mut Value) -> Result<(), Status> {
    let refused = |why: &str| Status::refused("", "pods", &target.name, why);
    let name = text(pod, "/spec/priorityClassName").to_owned();
    let class = if name.is_empty() { usual(context).await? } else { named(context, &name).await? };
    let class = class.ok_or_else(|| refused(&format!("no PriorityClass with name {name} was found")))?;
    if let Some(given) = integer(pod, "/spec/priority").filter(|given| *given != class.value) {
        return Err(refused(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.value
        )));
    }
    let given = text(pod, "/spec/preemptionPolicy").to_owned();
    if !given.is_empty() && given != class.preemption {
        return Err(refused(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.preemption
        )));
    }
    let spec = map_in(as_map(pod), "spec");
    if !class.name.is_empty() {
        spec.insert("priorityClassName".to_owned(), json!(class.name));
    }
    spec.insert("priority".to_owned(), json!(class.value));
    spec.insert("preemptionPolicy".to_owned(), json!(class.preemption));
    Ok(())
}

async fn named(context: &Context, name: &str) -> Result<Option<Class>, Status> {
    if let Some(stored) = context.storage.get(&Key::new(CLASSES, "", name)).await? {
        return Ok(Some(class(name, &stored.value()?)));
    }
    let system = SYSTEM.iter().find(|(system, _)| *system == name);
    Ok(system.map(|(name, value)| Class {
        name: (*name).to_owned(),
        value: *value,
        preemption: USUAL.to_owned(),
    }))
}

/// The class that is the default: of several the one with the lowest value; without one, priority 0.
async fn usual(context: &Context) -> Result<Option<Class>, Status> {
    let mut found = Class { name: String::new(), value: 0, preemption: USUAL.to_owned() };
    let query = ListQuery { resource: CLASSES.to_owned(), ..ListQuery::default() };
    for stored in context.storage.list(query).await?.items {
        let value = stored.value()?;
        let candidate = class(&stored.key.name, &value);
        if value["globalDefault"] == true && (found.name.is_empty() || candidate.value < found.value) {
            found = candidate;
        }
    }
    Ok(Some(found))
}

fn class(name: &str, value: &Value) -> Class {
    let preemption = match text(value, "/preemptionPolicy") {
        "" => USUAL,
        policy => policy,
    };
    let number = integer(value, "/value").unwrap_or(0);
    Class { name: name.to_owned(), value: number, preemption: preemption.to_owned() }
}
