//! `--set`: strict changes to a configuration, in Helm's form.

mod words;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use words::{Assignment, SetValue, Step};

/// Applies every assignment of every flag to `config`. A key must be one that the configuration keeps; a value is read
/// as the type of its key wants it, so that digits are text where text is wanted.
pub(crate) fn apply<T: Serialize + DeserializeOwned>(config: &T, flags: &[String]) -> anyhow::Result<T> {
    apply_at(config, flags, |_| {})
}

/// The same for values of the chart: keys of cloudcore.yaml may be written as they are there, or below `cloudCore`.
pub(crate) fn apply_values<T: Serialize + DeserializeOwned>(
    config: &T,
    flags: &[String],
) -> anyhow::Result<T> {
    apply_at(config, flags, |path| {
        if path.first() == Some(&Step::Key("modules".to_owned())) {
            path.insert(0, Step::Key("cloudCore".to_owned()));
        }
    })
}

fn apply_at<T: Serialize + DeserializeOwned>(
    config: &T,
    flags: &[String],
    place: impl Fn(&mut Vec<Step>),
) -> anyhow::Result<T> {
    let mut value = serde_json::to_value(config).context("reading the configuration")?;
    for flag in flags {
        for mut assignment in words::assignments(flag)? {
            place(&mut assignment.path);
            value = assign::<T>(value, &assignment)?;
        }
    }
    serde_json::from_value(value).context("--set gives a value of the wrong type")
}

/// The first reading of the value that the type takes.
fn assign<T: Serialize + DeserializeOwned>(before: Value, assignment: &Assignment) -> anyhow::Result<Value> {
    let mut refused = None;
    for candidate in readings(&before, assignment) {
        let mut changed = before.clone();
        *slot(&mut changed, assignment)? = candidate.clone();
        match serde_json::from_value::<T>(changed) {
            Err(error) => refused = refused.or(Some(error)),
            Ok(config) => {
                let after = serde_json::to_value(config).context("reading the configuration")?;
                if let Some(text) = unknown(&after, assignment) {
                    bail!("--set {}: {text}", assignment.name);
                }
                return Ok(after);
            }
        }
    }
    let reason = refused.map(|error| error.to_string()).unwrap_or_default();
    bail!("--set {}: {reason}", assignment.name)
}

/// What the text may mean, the likeliest first.
fn readings(before: &Value, assignment: &Assignment) -> Vec<Value> {
    let scalar = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let is_text = matches!(find(before, &assignment.path), Some(Value::String(_)));
    match &assignment.value {
        SetValue::One(text) if is_text => vec![Value::String(text.clone())],
        SetValue::One(text) if text.is_empty() => vec![Value::String(String::new()), Value::Null],
        SetValue::One(text) => vec![scalar(text), Value::String(text.clone())],
        SetValue::List(items) => vec![
            items.iter().map(|item| scalar(item)).collect(),
            items.iter().map(|item| Value::String(item.clone())).collect(),
        ],
        // Helm's list without items looks like JSON's map without keys.
        SetValue::Json(Value::Object(fields)) if fields.is_empty() => {
            vec![Value::Object(serde_json::Map::new()), Value::Array(Vec::new())]
        }
        SetValue::Json(value) => vec![value.clone()],
    }
}

fn find<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, step| match step {
        Step::Key(key) => at.get(key),
        Step::Index(index) => at.get(index),
    })
}

/// The place of the value, made where it is not there.
fn slot<'a>(value: &'a mut Value, assignment: &Assignment) -> anyhow::Result<&'a mut Value> {
    let name = &assignment.name;
    let mut at = value;
    for step in &assignment.path {
        if at.is_null() {
            *at = match step {
                Step::Key(_) => Value::Object(serde_json::Map::new()),
                Step::Index(_) => Value::Array(Vec::new()),
            };
        }
        at = match (step, at) {
            (Step::Key(key), Value::Object(fields)) => fields.entry(key).or_insert(Value::Null),
            (Step::Key(key), _) => bail!("--set {name}: {key:?} is below a value that has no keys"),
            (Step::Index(index), Value::Array(items)) => {
                let length = items.len();
                if *index > length {
                    bail!("--set {name}: the list has {length} items, so the next is [{length}]");
                }
                if *index == length {
                    items.push(Value::Null);
                }
                &mut items[*index]
            }
            (Step::Index(index), _) => bail!("--set {name}: [{index}] of a value that is no list"),
        };
    }
    Ok(at)
}

/// A key that the type did not keep, and those it has.
fn unknown(after: &Value, assignment: &Assignment) -> Option<String> {
    let mut at = after;
    for step in &assignment.path {
        let next = match step {
            Step::Key(key) => at.get(key),
            Step::Index(index) => at.get(index),
        };
        match (next, step, at) {
            (Some(next), ..) => at = next,
            // A value that was taken away leaves nothing below it.
            (None, Step::Key(key), Value::Object(fields)) => {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                return Some(format!("there is no key {key:?}; there are {}", known.join(", ")));
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::config::edgecore::EdgeCoreConfig;

    fn set(flags: &[&str]) -> anyhow::Result<EdgeCoreConfig> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        apply(&EdgeCoreConfig::default(), &flags)
    }

    #[test]
    fn a_known_path_is_set_and_an_unknown_one_is_named() {
        assert_eq!(set(&["modules.edgeHub.heartbeat=5"]).unwrap().modules.edge_hub.heartbeat, 5);
        let server =
            set(&["modules.edgeHub.websocket.server=h:1"]).unwrap().modules.edge_hub.websocket.server;
        assert_eq!(server, "h:1");
        let error = set(&["modules.edgeHub.hartbeat=5"]).unwrap_err().to_string();
        assert!(error.contains("hartbeat") && error.contains("heartbeat"), "{error}");
        let error = set(&["modules.edgeHub.heartbeat=often"]).unwrap_err().to_string();
        assert!(error.contains("modules.edgeHub.heartbeat") && error.contains("u32"), "{error}");
        assert!(set(&["nonsense"]).is_err());
    }

    #[test]
    fn a_map_takes_a_second_key_and_keys_with_dots() {
        let kubelet = "modules.edged.tailoredKubeletConfig";
        let config = set(&[
            &format!("{kubelet}.systemReserved.memory=100Mi"),
            &format!("{kubelet}.systemReserved.cpu=2,{kubelet}.evictionHard.pid\\.available=5%"),
            r"modules.edged.nodeLabels.example\.com/rack=12,modules.edged.nodeLabels.on=true",
        ]);
        let edged = config.unwrap().modules.edged;
        assert_eq!(edged.tailored_kubelet_config.system_reserved["cpu"], "2");
        assert_eq!(edged.tailored_kubelet_config.system_reserved["memory"], "100Mi");
        assert_eq!(edged.tailored_kubelet_config.eviction_hard["pid.available"], "5%");
        assert_eq!(edged.node_labels["example.com/rack"], "12");
        assert_eq!(edged.node_labels["on"], "true");
    }

    #[test]
    fn several_assignments_and_lists_are_in_one_flag() {
        let kubelet = "modules.edged.tailoredKubeletConfig";
        let config = set(&[
            "modules.eventBus.mqttMode=2,modules.edged.reportEvent=false",
            &format!("{kubelet}.clusterDNS={{169.254.96.16,10.0.0.10}},{kubelet}.evictionHard={{}}"),
            &format!(
                "{kubelet}.registerWithTaints[0].key=a,{kubelet}.registerWithTaints[0].effect=NoSchedule"
            ),
            &format!("{kubelet}.enforceNodeAllocatable={{}}"),
        ]);
        let modules = config.unwrap().modules;
        assert_eq!((modules.event_bus.mqtt_mode, modules.edged.report_event), (2, false));
        let kubelet = modules.edged.tailored_kubelet_config;
        assert_eq!(kubelet.cluster_dns.unwrap(), ["169.254.96.16", "10.0.0.10"]);
        assert!(kubelet.eviction_hard.is_empty() && kubelet.enforce_node_allocatable.is_empty());
        assert_eq!(kubelet.register_with_taints[0].effect, "NoSchedule");
    }

    #[test]
    fn digits_are_text_where_text_is_wanted() {
        let config =
            set(&["modules.edged.hostnameOverride=007,modules.eventBus.mqttPassword=12\\,3"]).unwrap();
        assert_eq!(config.modules.edged.hostname_override, "007");
        assert_eq!(config.modules.event_bus.mqtt_password, "12,3");
    }
}
