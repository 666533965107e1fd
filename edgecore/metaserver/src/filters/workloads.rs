//! Filters of pods and config maps.

use kubeapi::stored::Stored;
use serde_json::{Value, json};

use super::facts::Facts;
use super::{Seen, with};

/// With what names of variables begin that name the API server.
pub(super) const API_SERVER: &str = "KUBERNETES_SERVICE_";

/// Where a container names the API server itself.
pub(super) fn environment(facts: &Facts, stored: &Stored) -> Seen {
    let Some(address) = facts.address else { return Seen::AsItIs };
    let Some(mut pod) = with(stored, API_SERVER) else { return Seen::AsItIs };
    let values = [
        ("KUBERNETES_SERVICE_HOST", address.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", address.port().to_string()),
    ];
    let mut is_changed = false;
    for list in ["/spec/containers", "/spec/initContainers"] {
        let containers = pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        let variables = containers.filter_map(|container| container.get_mut("env")?.as_array_mut());
        for variable in variables.flatten() {
            let value = values.iter().find(|(name, _)| variable["name"] == *name);
            let Some((_, value)) = value.filter(|_| variable["value"].is_string()) else { continue };
            variable["value"] = json!(value);
            is_changed = true;
        }
    }
    if is_changed { Seen::Changed(pod) } else { Seen::AsItIs }
}

/// kube-proxy's configuration, as kubeadm writes it.
pub(super) fn in_cluster(stored: &Stored) -> Seen {
    const FILE: &str = "config.conf";
    if (stored.key.namespace.as_str(), stored.key.name.as_str()) != ("kube-system", "kube-proxy") {
        return Seen::AsItIs;
    }
    let Some(mut map) = with(stored, "kubeconfig:") else { return Seen::AsItIs };
    let Some(config) = map["data"][FILE].as_str() else { return Seen::AsItIs };
    let lines = config.split_inclusive('\n').map(|line| {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        if text.starts_with("kubeconfig:") { format!("{indent}#{text}") } else { line.to_owned() }
    });
    let changed: String = lines.collect();
    if changed == config {
        return Seen::AsItIs;
    }
    map["data"][FILE] = json!(changed);
    Seen::Changed(map)
}
