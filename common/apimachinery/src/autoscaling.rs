//! HorizontalPodAutoscalers of `autoscaling/v1`, which are stored as those of v2 (`pkg/apis/autoscaling/v1/conversion.go`).
//!
//! Of its metrics, v1 has a field for the utilisation of CPU only. All others, behaviour, conditions and current metrics are texts in
//! annotations there, so that who reads an object of v1 and writes it back loses nothing.

mod metrics;

use serde_json::{Map, Value, json};

use crate::object::{as_map, list, set_default, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOUR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// Annotations that are no part of a stored object.
const CARRIED: [&str; 6] = [
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOUR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// The field of v1 for the wanted utilisation of CPU, in percent, and that for what there is.
const WANTED: &str = "targetCPUUtilizationPercentage";
const SEEN: &str = "currentCPUUtilizationPercentage";
/// Percent of CPU that are wanted where nothing is said.
const DEFAULT: i64 = 80;

/// Takes off what other versions keep in annotations, and returns it.
pub fn drop_carried(autoscaler: &mut Value) -> Map<String, Value> {
    let mut carried = Map::new();
    let Some(Value::Object(metadata)) = autoscaler.get_mut("metadata") else { return carried };
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else { return carried };
    for name in CARRIED {
        carried.extend(annotations.remove(name).map(|value| (name.to_owned(), value)));
    }
    if annotations.is_empty() && !carried.is_empty() {
        metadata.remove("annotations");
    }
    carried
}

/// From v1 to v2. An annotation that does not read is passed over.
pub fn to_v2(autoscaler: &mut Value) {
    let carried = drop_carried(autoscaler);
    let read = |name: &str| -> Option<Value> {
        serde_json::from_str(carried.get(name)?.as_str()?).ok().filter(|read: &Value| !read.is_null())
    };
    let items = |name: &str| match read(name) {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    };
    let fields = as_map(autoscaler);
    if let Some(Value::Object(spec)) = fields.get_mut("spec") {
        let wanted = spec.remove(WANTED).filter(|wanted| !wanted.is_null());
        let mut all: Vec<Value> =
            items(METRICS).into_iter().flatten().map(|metric| metrics::to_v2(&metric, false)).collect();
        all.extend(wanted.map(|wanted| metrics::cpu(&wanted)));
        if all.is_empty() {
            all.push(metrics::cpu(&json!(DEFAULT)));
        }
        spec.insert("metrics".to_owned(), json!(all));
        if let Some(behaviour) = read(BEHAVIOUR).filter(Value::is_object) {
            spec.insert("behavior".to_owned(), metrics::small(&behaviour));
        }
    }
    if let Some(Value::Object(status)) = fields.get_mut("status") {
        let seen = status.remove(SEEN).filter(|seen| !seen.is_null());
        let seen = seen.map(|seen| {
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": seen}}}])
        });
        let current =
            items(CURRENT).map(|all| all.iter().map(|metric| metrics::to_v2(metric, true)).collect());
        status.insert("currentMetrics".to_owned(), current.or(seen).unwrap_or_default());
        status.extend(items(CONDITIONS).map(|all| ("conditions".to_owned(), json!(all))));
    }
}

/// From v2 to v1.
pub fn to_v1(autoscaler: &mut Value) {
    drop_carried(autoscaler);
    let mut carried = Map::new();
    let fields = as_map(autoscaler);
    if let Some(Value::Object(spec)) = fields.get_mut("spec") {
        let all = spec.remove("metrics").unwrap_or_default();
        let (cpu, others): (Vec<&Value>, Vec<&Value>) =
            list(&all, "").iter().partition(|metric| metrics::is_cpu(metric));
        if let Some(first) = cpu.first() {
            spec.insert(WANTED.to_owned(), first["resource"]["target"]["averageUtilization"].clone());
        }
        if !others.is_empty() {
            let others: Value = others.into_iter().map(|metric| metrics::to_v1(metric, false)).collect();
            carried.insert(METRICS.to_owned(), json!(others.to_string()));
        }
        if let Some(behaviour) = spec.remove("behavior").filter(Value::is_object) {
            carried.insert(BEHAVIOUR.to_owned(), json!(metrics::large(&behaviour).to_string()));
        }
    }
    if let Some(Value::Object(status)) = fields.get_mut("status") {
        let all = status.remove("currentMetrics").unwrap_or_default();
        let seen = list(&all, "").iter().rfind(|metric| {
            text(metric, "/type") == "Resource"
                && text(metric, "/resource/name") == "cpu"
                && !metric["resource"]["current"]["averageUtilization"].is_null()
        });
        status.extend(
            seen.map(|seen| (SEEN.to_owned(), seen["resource"]["current"]["averageUtilization"].clone())),
        );
        if !list(&all, "").is_empty() {
            let all: Value = list(&all, "").iter().map(|metric| metrics::to_v1(metric, true)).collect();
            carried.insert(CURRENT.to_owned(), json!(all.to_string()));
        }
        let conditions = status.remove("conditions").unwrap_or_default();
        if !list(&conditions, "").is_empty() {
            carried.insert(CONDITIONS.to_owned(), json!(conditions.to_string()));
        }
        set_default(status, "currentReplicas", 0);
        set_default(status, "desiredReplicas", 0);
    }
    if !carried.is_empty() {
        let metadata = crate::object::metadata(autoscaler);
        crate::object::map_in(metadata, "annotations").extend(carried);
    }
}

/// Fills in what behaviour leaves out (`pkg/apis/autoscaling/v2/defaults.go`).
pub(crate) fn complete_behaviour(spec: &mut Map<String, Value>) {
    let Some(Value::Object(behaviour)) = spec.get_mut("behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", json!([pods, percent])), ("scaleDown", json!([percent]))] {
        let rules = crate::object::map_in(behaviour, direction);
        if direction == "scaleUp" {
            set_default(rules, "stabilizationWindowSeconds", 0);
        }
        set_default(rules, "selectPolicy", "Max");
        set_default(rules, "policies", policies);
    }
}

#[cfg(test)]
mod tests;
