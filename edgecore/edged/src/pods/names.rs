//! Names of a pod that become paths, marks and arguments on this node. The API checked them; a cloud that did not, or
//! a message that was changed, must not lead out of the pod's folder.
//!
//! Paths that come with contents are checked where they are used: files of volumes (`volumes::atomic`), host paths
//! (`volumes::host_path`), parts of volumes (`volumes::subpath`).

use apimachinery::names;
use k8s_openapi::api::core::v1::{Container, PodSpec, VolumeMount};

use podmodel::spec::{PodId, all_containers, as_container, is_safe_uid};

/// Whether the pod's own names may be part of a path.
pub(super) fn is_safe(id: &PodId) -> bool {
    is_safe_uid(&id.uid) && names::label(&id.namespace).is_none() && names::subdomain(&id.name).is_none()
}

/// What is wrong with the names in a spec: the first of them, with its reason.
pub(super) fn problem(spec: &PodSpec) -> Option<String> {
    let volumes = spec.volumes.iter().flatten().map(|volume| ("volume", &volume.name));
    let guests: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
    let containers: Vec<&Container> = all_containers(spec).chain(&guests).collect();
    let named = containers.iter().map(|container| ("container", &container.name));
    let label = volumes.chain(named).find_map(|(what, name)| {
        let why = names::label(name)?;
        Some(format!("name {name:?} of a {what}: {why}"))
    });
    label.or_else(|| containers.iter().find_map(|container| inside(container)))
}

/// What a container names for itself.
fn inside(container: &Container) -> Option<String> {
    let name = &container.name;
    let mut variables = container.env.iter().flatten().map(|variable| &variable.name);
    let bad = variables.find(|variable| variable.is_empty() || variable.contains(['=', '\0']));
    if let Some(variable) = bad {
        return Some(format!("container {name:?}: {variable:?} is not the name of a variable"));
    }
    let mut mounts = container.volume_mounts.iter().flatten();
    let part = mounts.find_map(|mount| sub_path(mount).filter(|path| leads_out(path)))?;
    Some(format!("container {name:?}: the subPath {part:?} must be relative and not contain '..'"))
}

fn sub_path(mount: &VolumeMount) -> Option<&str> {
    mount.sub_path_expr.as_deref().filter(|path| !path.is_empty()).or(mount.sub_path.as_deref())
}

fn leads_out(path: &str) -> bool {
    path.starts_with('/') || path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(json: Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn names_that_are_paths_are_found_wherever_they_are() {
        let of = |extra: Value| {
            let mut fields =
                json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]});
            let Value::Object(extra) = extra else { return None };
            extra.into_iter().for_each(|(key, value)| fields[key] = value);
            problem(&spec(fields))
        };
        assert_eq!(of(json!({})), None);
        let mounted = |mount: Value| json!({"containers": [{"name": "a", "volumeMounts": [mount]}]});
        for (bad, named) in [
            (json!({"volumes": [{"name": "../v", "emptyDir": {}}]}), "\"../v\" of a volume"),
            (json!({"initContainers": [{"name": "a/b"}]}), "\"a/b\" of a container"),
            (json!({"ephemeralContainers": [{"name": ".."}]}), "\"..\" of a container"),
            (json!({"containers": [{"name": "a", "env": [{"name": "A=B"}]}]}), "\"A=B\""),
            (mounted(json!({"name": "v", "mountPath": "/v", "subPath": "a/../../b"})), "\"a/../../b\""),
            (mounted(json!({"name": "v", "mountPath": "/v", "subPathExpr": "/$(A)"})), "\"/$(A)\""),
        ] {
            let found = of(bad.clone()).unwrap_or_default();
            assert!(found.contains(named), "{bad}: {found:?}");
        }
        let good = mounted(json!({"name": "v", "mountPath": "/v", "subPath": "a..b/..c"}));
        assert_eq!(of(good), None);
    }

    #[test]
    fn a_pod_is_safe_by_its_uid_namespace_and_name() {
        let id = |namespace: &str, name: &str, uid: &str| PodId {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        assert!(is_safe(&id("default", "web-1.a", "3f2a")));
        let bad =
            [("..", "web", "u"), ("default", "../web", "u"), ("default", "web", "../u"), ("", "web", "u")];
        assert!(bad.iter().all(|(namespace, name, uid)| !is_safe(&id(namespace, name, uid))));
    }
}
