//! Finding what a request names: the pod on the board, its container in the runtime.

use cri::labels;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;

use super::ServerState;
use super::answer::{self, Answer};
use super::router::PodName;
use podmodel::errors::chain;
use podmodel::spec;

/// Why a request is not carried out.
pub(crate) struct HttpRefusal {
    pub status: StatusCode,
    pub text: String,
}

impl HttpRefusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> HttpRefusal {
        HttpRefusal { status, text: text.into() }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> HttpRefusal {
        HttpRefusal::new(StatusCode::NOT_FOUND, text)
    }

    /// The runtime, the store or the disk did not do what was asked.
    pub(crate) fn trouble(error: &(dyn std::error::Error + 'static)) -> HttpRefusal {
        HttpRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
    }

    pub(crate) fn answer(self) -> Answer {
        answer::text(self.status, self.text)
    }
}

impl ServerState {
    /// The pod with its newest status; the texts are the kubelet's.
    pub(crate) fn pod(&self, wanted: &PodName) -> Result<Pod, HttpRefusal> {
        let board = &self.base.board;
        let entry = match &wanted.uid {
            None => board.named(&wanted.namespace, &wanted.name),
            Some(uid) => board
                .get(uid)
                .filter(|entry| entry.id.namespace == wanted.namespace && entry.id.name == wanted.name),
        };
        let missing = || HttpRefusal::not_found(format!("pod {:?} not found", wanted.name));
        entry.and_then(|entry| entry.pod()).ok_or_else(missing)
    }

    /// The id of the running container of this name.
    pub(crate) async fn running(&self, pod: &Pod, container: &str) -> Result<String, HttpRefusal> {
        let missing = || HttpRefusal::not_found(format!("container not found ({container:?})"));
        let known = pod.spec.as_ref().and_then(|pod| spec::container(pod, container));
        known.ok_or_else(missing)?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let runs = self.base.runtime.list_containers(Some((labels::POD_UID, uid))).await;
        let runs = runs.map_err(|error| HttpRefusal::trouble(&error))?;
        let running = runs.into_iter().filter(|run| {
            run.state() == cri::v1::ContainerState::ContainerRunning
                && run.labels.get(labels::CONTAINER_NAME).is_some_and(|name| name == container)
        });
        running.max_by_key(|run| run.created_at).map(|run| run.id).ok_or_else(missing)
    }

    /// The id of the pod's ready sandbox.
    pub(crate) async fn sandbox(&self, pod: &Pod) -> Result<String, HttpRefusal> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let sandboxes = self.base.runtime.list_pod_sandboxes(Some((labels::POD_UID, uid))).await;
        let sandboxes = sandboxes.map_err(|error| HttpRefusal::trouble(&error))?;
        let ready =
            sandboxes.into_iter().filter(|item| item.state() == cri::v1::PodSandboxState::SandboxReady);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let newest = ready.max_by_key(|item| item.created_at).map(|item| item.id);
        newest.ok_or_else(|| HttpRefusal::not_found(format!("pod {name:?} does not run")))
    }
}
