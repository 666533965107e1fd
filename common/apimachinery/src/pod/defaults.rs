//! Defaults of pods and pod templates, as the real server sets them.

use crate::object::{as_map, map_in, maps_in, set_default};
use serde_json::{Map, Value, json};

type Json = Map<String, Value>;

/// Completes a pod.
pub fn pod(value: &mut Value) {
    let spec = map_in(as_map(value), "spec");
    pod_spec(spec);
    set_default(spec, "enableServiceLinks", true);
}

/// The pod template of a workload, wherever it is.
pub fn template(value: &mut Value) {
    for pointer in ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"] {
        if let Some(Value::Object(spec)) = value.pointer_mut(pointer) {
            pod_spec(spec);
        }
    }
}

fn pod_spec(spec: &mut Json) {
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "securityContext", json!({}));
    if let Some(name) = spec.get("serviceAccountName").cloned() {
        set_default(spec, "serviceAccount", name);
    }
    let host_network = spec.get("hostNetwork").is_some_and(|flag| *flag == true);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        maps_in(spec, list).for_each(|one| container(one, host_network));
    }
    maps_in(spec, "volumes").for_each(volume);
}

fn container(container: &mut Json, host_network: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    set_default(container, "imagePullPolicy", if is_latest(image) { "Always" } else { "IfNotPresent" });
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    set_default(container, "resources", json!({}));
    resources(map_in(container, "resources"));
    for port in maps_in(container, "ports") {
        set_default(port, "protocol", "TCP");
        if let (true, Some(number)) = (host_network, port.get("containerPort").cloned()) {
            set_default(port, "hostPort", number);
        }
    }
    for entry in maps_in(container, "env") {
        if let Some(Value::Object(field)) =
            entry.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"))
        {
            set_default(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(name) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        let hook = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(hook));
        if let Some(Value::Object(request)) = hook.and_then(|hook| hook.get_mut("httpGet")) {
            http_get(request);
        }
    }
}

/// True for no tag, for `:latest`, and not for digests.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// Requests default to limits.
fn resources(resources: &mut Json) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = map_in(resources, "requests");
    for (name, amount) in limits {
        set_default(requests, &name, amount);
    }
}

fn http_get(request: &mut Json) {
    set_default(request, "path", "/");
    set_default(request, "scheme", "HTTP");
}

fn probe(probe: &mut Json) {
    for (key, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe.get(key).is_some_and(|value| *value == 0) {
            probe.remove(key);
        }
        set_default(probe, key, value);
    }
    if let Some(Value::Object(request)) = probe.get_mut("httpGet") {
        http_get(request);
    }
    if let Some(Value::Object(grpc)) = probe.get_mut("grpc") {
        set_default(grpc, "service", "");
    }
}

/// 0644
const FILE_MODE: i32 = 420;

fn volume(volume: &mut Json) {
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(Value::Object(source)) = volume.get_mut(source) {
            set_default(source, "defaultMode", FILE_MODE);
            field_refs(source);
            for part in maps_in(source, "sources") {
                if let Some(Value::Object(token)) = part.get_mut("serviceAccountToken") {
                    set_default(token, "expirationSeconds", 3600);
                }
                if let Some(Value::Object(downward)) = part.get_mut("downwardAPI") {
                    field_refs(downward);
                }
            }
        }
    }
    if let Some(Value::Object(path)) = volume.get_mut("hostPath") {
        set_default(path, "type", "");
    }
    if volume.len() == 1 {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
}

fn field_refs(source: &mut Json) {
    for item in maps_in(source, "items") {
        if let Some(Value::Object(field)) = item.get_mut("fieldRef") {
            set_default(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_a_fixed_tag_are_always_pulled() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1", false),
            ("r:5000/nginx", true),
            ("r:5000/n:1", false),
            ("nginx@sha256:0", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn defaulting_twice_changes_nothing() {
        let mut once = json!({"spec": {"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 1}],
            "livenessProbe": {"httpGet": {"port": 1}}, "resources": {"limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v", "configMap": {"name": "c"}}, {"name": "e"}]}});
        pod(&mut once);
        assert_eq!(once["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
        assert_eq!(once["spec"]["volumes"][0]["configMap"]["defaultMode"], 420);
        let mut twice = once.clone();
        pod(&mut twice);
        assert_eq!(once, twice);
    }
}
