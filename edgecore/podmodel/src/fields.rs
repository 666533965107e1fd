//! Downward API: fields and resources of a pod as text, for environment variables and files.

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use super::quantity;
use super::resources::Amounts;
use super::spec;

/// What a pod may be told about where it runs.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    pub node: String,
    pub node_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// What the node offers, for containers without a limit.
    pub cpu_milli: i64,
    pub memory: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    #[error("field {path:?} is not one the downward API knows")]
    UnknownField { path: String },
    #[error("resource {resource:?} of container {container:?} is not one the downward API knows")]
    UnknownResource { resource: String, container: String },
}

/// One field. Maps are written one `key="value"` per line, as the downward API's files are.
pub fn field(pod: &Pod, place: &NodeFacts, path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(FieldError::UnknownField { path: path.to_owned() }),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => place.node.clone(),
        "spec.serviceAccountName" => account.unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" => place.node_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => place.node_ips.join(","),
        "status.podIP" => place.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => place.pod_ips.join(","),
        _ => return Err(FieldError::UnknownField { path: path.to_owned() }),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

fn lines(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// A request or limit of a container, divided and rounded up. `own` is used when the selector names no container.
pub fn resource(
    pod: &Pod,
    place: &NodeFacts,
    selector: &ResourceFieldSelector,
    own: &str,
) -> Result<String, FieldError> {
    let name = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(own);
    let container = pod.spec.as_ref().and_then(|pod| spec::container(pod, name));
    let amounts = Amounts::of(container.as_ref().and_then(|container| container.resources.as_ref()));
    let (value, is_cpu) = match selector.resource.as_str() {
        "limits.cpu" => (amounts.cpu_limit.unwrap_or(place.cpu_milli), true),
        "requests.cpu" => (amounts.cpu_request.unwrap_or(0), true),
        "limits.memory" => (amounts.memory_limit.unwrap_or(place.memory), false),
        "requests.memory" => (amounts.memory_request.unwrap_or(0), false),
        resource => {
            return Err(FieldError::UnknownResource {
                resource: resource.to_owned(),
                container: name.to_owned(),
            });
        }
    };
    let divisor = selector.divisor.as_ref().and_then(if is_cpu { quantity::milli } else { quantity::units });
    let divisor = divisor.filter(|divisor| *divisor > 0).unwrap_or(if is_cpu { 1000 } else { 1 });
    Ok(((value + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources_read_as_kubernetes_writes_them() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"a": "x\"y", "b": "2"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]}}))
        .unwrap();
        let place = NodeFacts { node: "e".into(), cpu_milli: 4000, memory: 1 << 30, ..NodeFacts::default() };
        let get = |path: &str| field(&pod, &place, path).unwrap();
        assert_eq!((get("metadata.name"), get("spec.nodeName")), ("p".into(), "e".into()));
        assert_eq!(get("metadata.labels['b']"), "2");
        assert_eq!(get("metadata.labels"), "a=\"x\\\"y\"\nb=\"2\"");
        assert!(field(&pod, &place, "spec.containers").is_err());
        let resource = |name: &str, divisor: &str| {
            let selector = serde_json::from_value(json!({"resource": name, "divisor": divisor})).unwrap();
            resource(&pod, &place, &selector, "c").unwrap()
        };
        assert_eq!(resource("limits.cpu", "0"), "1");
        assert_eq!(resource("limits.cpu", "1m"), "250");
        assert_eq!(resource("limits.memory", "1Mi"), "64");
    }
}
