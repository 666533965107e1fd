//! What the runtime holds of one pod.

use cri::{CallError, Runtime, labels, v1};
use futures_util::future::join_all;

/// Sandboxes and containers of one pod, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Instance>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    /// Nanoseconds of Unix time.
    pub created: i64,
    /// Empty for pods in the host's network.
    pub ips: Vec<String>,
    pub host_network: bool,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub sandbox: String,
    /// How often the container had been restarted when this run was made.
    pub attempt: u32,
    pub state: State,
    /// Nanoseconds of Unix time; zero if it has not happened.
    pub created: i64,
    pub started: i64,
    pub finished: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_ref: String,
    /// The image text of the pod spec it was made from, if we made it.
    pub spec_image: Option<String>,
    pub log_path: String,
    /// The hook to run before it is stopped, and its ports, as JSON: they outlive the pod's spec.
    pub pre_stop: Option<String>,
    pub ports: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// Annotation with the image text of the pod spec, to see a changed spec (docs/protocol/edge-runtime.md 5.6).
pub const SPEC_IMAGE: &str = "causeway.io/spec-image";

impl Observed {
    /// Reads everything the runtime holds for `uid`.
    pub async fn read(runtime: &Runtime, uid: &str) -> Result<Observed, CallError> {
        let label = Some((labels::POD_UID, uid));
        let sandboxes = async {
            let items = runtime.list_pod_sandboxes(label).await?;
            let statuses = items.into_iter().map(|item| sandbox_of(runtime, item.id));
            present(join_all(statuses).await)
        };
        let containers = async {
            let items = runtime.list_containers(label).await?;
            let statuses = items.into_iter().map(|item| async move {
                let status = runtime.container_status(&item.id).await?;
                Ok(instance(status, item.pod_sandbox_id).await)
            });
            present(join_all(statuses).await)
        };
        // Each question takes the runtime a millisecond or two: they are asked side by side.
        let (sandboxes, containers) = tokio::join!(sandboxes, containers);
        let (mut sandboxes, mut containers) = (sandboxes?, containers?);
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created)));
        containers.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created)));
        Ok(Observed { sandboxes, containers })
    }

    /// The newest run of a container.
    pub fn newest(&self, name: &str) -> Option<&Instance> {
        self.containers.iter().find(|instance| instance.name == name)
    }

    /// The runs of a container, newest first.
    pub fn runs<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a Instance> + use<'a, 'n> {
        self.containers.iter().filter(move |instance| instance.name == name)
    }

    pub fn is_running(&self) -> bool {
        self.containers.iter().any(|c| matches!(c.state, State::Running | State::Unknown))
            || self.sandboxes.iter().any(|sandbox| sandbox.ready)
    }

    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}

/// One sandbox as it stands.
pub async fn sandbox_of(runtime: &Runtime, id: String) -> Result<Sandbox, CallError> {
    runtime.pod_sandbox_status(&id).await.map(sandbox)
}

/// What is gone between the list and the question is left out.
fn present<T>(answers: Vec<Result<T, CallError>>) -> Result<Vec<T>, CallError> {
    let found = answers.into_iter().filter(|answer| !answer.as_ref().is_err_and(CallError::is_not_found));
    found.collect()
}

fn sandbox(status: v1::PodSandboxStatus) -> Sandbox {
    let ready = status.state() == v1::PodSandboxState::SandboxReady;
    let network = status.network.unwrap_or_default();
    let options = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
    let first = Some(network.ip).filter(|ip| !ip.is_empty());
    Sandbox {
        id: status.id,
        attempt: status.metadata.map(|metadata| metadata.attempt).unwrap_or_default(),
        ready,
        created: status.created_at,
        ips: first.into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip)).collect(),
        host_network: options.is_some_and(|options| options.network() == v1::NamespaceMode::Node),
    }
}

async fn instance(status: v1::ContainerStatus, sandbox: String) -> Instance {
    let state = match status.state() {
        v1::ContainerState::ContainerCreated => State::Created,
        v1::ContainerState::ContainerRunning => State::Running,
        v1::ContainerState::ContainerExited => State::Exited,
        v1::ContainerState::ContainerUnknown => State::Unknown,
    };
    let message = match state {
        State::Exited => super::termination::message(&status).await,
        _ => status.message.clone(),
    };
    let metadata = status.metadata.unwrap_or_default();
    let counted = status.annotations.get(labels::RESTART_COUNT).and_then(|text| text.parse().ok());
    Instance {
        id: status.id,
        name: metadata.name,
        sandbox,
        attempt: counted.unwrap_or(metadata.attempt),
        state,
        created: status.created_at,
        started: status.started_at,
        finished: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_ref: status.image_ref,
        spec_image: status.annotations.get(SPEC_IMAGE).cloned(),
        log_path: status.log_path,
        pre_stop: status.annotations.get(labels::PRE_STOP).cloned(),
        ports: status.annotations.get(labels::PORTS).cloned(),
    }
}
