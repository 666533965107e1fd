//! The fake's runtime service.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::state::{FakeContainer, FakeSandbox, State};
use super::stats;
use crate::v1::runtime_service_server::RuntimeService;
use crate::v1::*;

#[derive(Clone)]
pub(super) struct Service(pub Arc<Mutex<State>>);

pub(super) type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fits(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn no_such(id: &str) -> Status {
    Status::not_found(format!("{id} is not here"))
}

fn unimplemented<T>() -> Answer<T> {
    Err(Status::unimplemented("the fake has no such call"))
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "fake".to_owned(),
            runtime_version: "1.0".to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let condition =
            |kind: &str, status| RuntimeCondition { r#type: kind.to_owned(), status, ..Default::default() };
        let network = self.state().network_ready;
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
        Ok(Response::new(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() }))
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        unimplemented()
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        let mut state = self.state();
        if let Some(taken) =
            state.sandboxes.values().find(|sandbox| sandbox.config.metadata == config.metadata)
        {
            return Err(Status::already_exists(format!("name is reserved for {}", taken.id)));
        }
        let id = state.next_id("sandbox");
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        state.note("RunPodSandbox", &name);
        let ip = format!("10.0.0.{}", state.sandboxes.len() + 2);
        let created = state.now();
        state.sandboxes.insert(id.clone(), FakeSandbox { id: id.clone(), config, ready: true, created, ip });
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.state();
        let now = state.now();
        let sandbox = state.sandboxes.get_mut(&id).ok_or_else(|| no_such(&id))?;
        sandbox.ready = false;
        for container in state.containers.values_mut().filter(|container| container.sandbox == id) {
            if container.state == ContainerState::ContainerRunning {
                container.exit(137, now);
            }
        }
        state.note("StopPodSandbox", &id);
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.state();
        state.sandboxes.remove(&id).ok_or_else(|| no_such(&id))?;
        state.containers.retain(|_, container| container.sandbox != id);
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let sandbox = self.state().sandboxes.get(&id).cloned().ok_or_else(|| no_such(&id))?;
        let linux = sandbox.config.linux.unwrap_or_default();
        let options = linux.security_context.and_then(|context| context.namespace_options);
        let on_host = options.as_ref().is_some_and(|options| options.network() == NamespaceMode::Node);
        let ip = if on_host { String::new() } else { sandbox.ip };
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(PodSandboxStatus {
                id: sandbox.id,
                metadata: sandbox.config.metadata,
                state: state_of(sandbox.ready).into(),
                created_at: sandbox.created,
                network: Some(PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
                linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options }) }),
                labels: sandbox.config.labels,
                annotations: sandbox.config.annotations,
                runtime_handler: String::new(),
            }),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state();
        state.readable()?;
        let found = state.sandboxes.values().filter(|sandbox| fits(&sandbox.config.labels, &wanted));
        let items = found
            .map(|sandbox| PodSandbox {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                state: state_of(sandbox.ready).into(),
                created_at: sandbox.created,
                labels: sandbox.config.labels.clone(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let mut state = self.state();
        if !state.sandboxes.get(&request.pod_sandbox_id).is_some_and(|sandbox| sandbox.ready) {
            return Err(no_such(&request.pod_sandbox_id));
        }
        let taken = state.containers.values().any(|container| {
            container.sandbox == request.pod_sandbox_id && container.config.metadata == config.metadata
        });
        if taken {
            return Err(Status::unknown("name is reserved for another container"));
        }
        let id = state.next_id("container");
        let container = FakeContainer {
            id: id.clone(),
            sandbox: request.pod_sandbox_id,
            config,
            state: ContainerState::ContainerCreated,
            created: state.now(),
            started: 0,
            finished: 0,
            exit_code: 0,
        };
        state.containers.insert(id.clone(), container);
        Ok(Response::new(CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        let now = state.now();
        let container = state.containers.get_mut(&id).ok_or_else(|| no_such(&id))?;
        if container.state != ContainerState::ContainerCreated {
            return Err(Status::failed_precondition("container is not in created state"));
        }
        container.state = ContainerState::ContainerRunning;
        container.started = now;
        let name = format!("{} {}", container.name(), container.attempt());
        state.note("StartContainer", &name);
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        let now = state.now();
        let container = state.containers.get_mut(&id).ok_or_else(|| no_such(&id))?;
        if container.state == ContainerState::ContainerRunning {
            container.exit(0, now);
        }
        let name = container.name().to_owned();
        state.note("StopContainer", &name);
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        if state.keeps_containers {
            return Err(Status::failed_precondition("cannot delete running task"));
        }
        state.containers.remove(&id).ok_or_else(|| no_such(&id))?;
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state();
        state.readable()?;
        let found = state.containers.values().filter(|container| fits(&container.config.labels, &wanted));
        let containers = found
            .map(|container| Container {
                id: container.id.clone(),
                pod_sandbox_id: container.sandbox.clone(),
                metadata: container.config.metadata.clone(),
                state: container.state.into(),
                created_at: container.created,
                labels: container.config.labels.clone(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let container = self.state().containers.get(&id).cloned().ok_or_else(|| no_such(&id))?;
        let image = container.config.image.unwrap_or_default();
        Ok(Response::new(ContainerStatusResponse {
            status: Some(ContainerStatus {
                id: container.id,
                metadata: container.config.metadata,
                state: container.state.into(),
                created_at: container.created,
                started_at: container.started,
                finished_at: container.finished,
                exit_code: container.exit_code,
                image_ref: image.image.clone(),
                image: Some(image),
                labels: container.config.labels,
                annotations: container.config.annotations,
                mounts: container.config.mounts,
                log_path: container.config.log_path,
                ..Default::default()
            }),
        }))
    }

    async fn reopen_container_log(
        &self,
        _: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        // `exit N` is the one program the fake runs.
        let exit_code = match request.cmd.as_slice() {
            [exit, code] if exit == "exit" => code.parse().unwrap_or(1),
            _ => 0,
        };
        Ok(Response::new(ExecSyncResponse { exit_code, ..Default::default() }))
    }

    async fn exec(&self, _: Request<ExecRequest>) -> Answer<ExecResponse> {
        unimplemented()
    }

    async fn attach(&self, _: Request<AttachRequest>) -> Answer<AttachResponse> {
        unimplemented()
    }

    async fn port_forward(&self, _: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        unimplemented()
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        let stats = stats::of_all(&self.state()).into_iter().find(|stats| stats::is_of(stats, &id));
        let stats = stats.ok_or_else(|| no_such(&id))?;
        Ok(Response::new(ContainerStatsResponse { stats: Some(stats) }))
    }

    async fn list_container_stats(
        &self,
        _: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        Ok(Response::new(ListContainerStatsResponse { stats: stats::of_all(&self.state()) }))
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        unimplemented()
    }
}

fn state_of(ready: bool) -> PodSandboxState {
    if ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
}
