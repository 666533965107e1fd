//! `/pods` and `/runningpods/`: what this node should run, and what runs.

use std::collections::BTreeMap;

use cri::{labels, v1};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::ServerState;
use super::target::HttpRefusal;
use nodebase::owner::{self, Owner};
use podmodel::board::PodEntry;

impl ServerState {
    /// The pods of this node, with the newest status each.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        self.base.board.entries().iter().filter_map(PodEntry::pod).collect()
    }

    /// Pods made of what the runtime holds.
    pub(crate) async fn running_pods(&self) -> Result<Vec<Pod>, HttpRefusal> {
        let runtime = &self.base.runtime;
        let mut sandboxes =
            runtime.list_pod_sandboxes(None).await.map_err(|error| HttpRefusal::trouble(&error))?;
        let mut containers =
            runtime.list_containers(None).await.map_err(|error| HttpRefusal::trouble(&error))?;
        // Other node agents may share the runtime.
        let mark = owner::mark(&self.base.settings);
        sandboxes.retain(|sandbox| owner::of(&sandbox.labels, &mark) != Owner::Another);
        containers.retain(|container| owner::of(&container.labels, &mark) != Owner::Another);
        Ok(running(&sandboxes, &containers))
    }
}

pub(super) fn list(items: Vec<Pod>) -> List<Pod> {
    List { items, ..List::default() }
}

fn running(sandboxes: &[v1::PodSandbox], containers: &[v1::Container]) -> Vec<Pod> {
    let mut found: BTreeMap<String, Pod> = BTreeMap::new();
    for sandbox in sandboxes.iter().filter(|item| item.state() == v1::PodSandboxState::SandboxReady) {
        if let Some(pod) = bare(&sandbox.labels) {
            found.insert(pod.metadata.uid.clone().unwrap_or_default(), pod);
        }
    }
    for container in containers.iter().filter(|item| item.state() == v1::ContainerState::ContainerRunning) {
        let Some(pod) = bare(&container.labels) else { continue };
        let pod = found.entry(pod.metadata.uid.clone().unwrap_or_default()).or_insert(pod);
        let image = container.image.as_ref().map(|image| image.image.clone());
        let name = container.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default();
        let spec = pod.spec.get_or_insert_default();
        spec.containers.push(Container { name, image, ..Container::default() });
    }
    found.into_values().collect()
}

fn bare(from: &std::collections::HashMap<String, String>) -> Option<Pod> {
    let text = |key: &str| from.get(key).cloned();
    Some(Pod {
        metadata: ObjectMeta {
            uid: Some(text(labels::POD_UID)?),
            name: text(labels::POD_NAME),
            namespace: text(labels::POD_NAMESPACE),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec::default()),
        status: Some(PodStatus::default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_is_listed_under_its_pod() {
        let of = |uid: &str, name: &str| {
            [(labels::POD_UID, uid), (labels::POD_NAME, "web"), (labels::CONTAINER_NAME, name)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let container = |uid, name, state: v1::ContainerState| v1::Container {
            labels: of(uid, name),
            state: state.into(),
            ..Default::default()
        };
        let gone = v1::PodSandbox {
            labels: of("old", ""),
            state: v1::PodSandboxState::SandboxNotready.into(),
            ..Default::default()
        };
        let containers = [
            container("u", "a", v1::ContainerState::ContainerRunning),
            container("u", "b", v1::ContainerState::ContainerExited),
        ];
        let pods = running(&[gone], &containers);
        assert_eq!(pods.len(), 1);
        let names: Vec<_> =
            pods[0].spec.as_ref().unwrap().containers.iter().map(|c| c.name.as_str()).collect();
        assert_eq!((pods[0].metadata.uid.as_deref(), names), (Some("u"), vec!["a"]));
    }
}
