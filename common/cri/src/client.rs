//! The client: one method per call, each with its deadline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Streaming};

use crate::CallError;
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::*;

/// A call under way. Boxed, so that what it is made of is compiled here and not wherever it is awaited.
pub type Call<'a, T> = BoxFuture<'a, Result<T, CallError>>;

/// Handle of a container runtime. Clones share one connection.
#[derive(Clone)]
pub struct Runtime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
}

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("{endpoint:?} is not a runtime endpoint: write unix:///path/to/socket")]
    NotUnix { endpoint: String },
}

/// What the protocol's other clients allow one message to be.
const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;
/// Reading calls answer from the runtime's memory.
const READ: Duration = Duration::from_secs(30);
/// Calls that make or unmake something (KubeEdge's runtimeRequestTimeout).
const CHANGE: Duration = Duration::from_secs(120);
/// A sandbox may have to fetch its pause image and wait for CNI.
const SANDBOX: Duration = Duration::from_secs(240);
/// Large images over thin links: long, but not for ever.
const PULL: Duration = Duration::from_secs(3600);

macro_rules! call {
    ($self:ident.$client:ident.$method:ident, $name:literal, $object:expr, $deadline:expr, $message:expr) => {{
        let object: &str = $object;
        let mut request = Request::new($message);
        request.set_timeout($deadline);
        match $self.$client.clone().$method(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(source) => Err(CallError { call: $name, object: object.to_owned(), source }),
        }
    }};
}

const NODE: &str = "the node";

impl Runtime {
    /// A client of `unix:///path`, or of a bare absolute path. Connects on the first call.
    ///
    /// # Errors
    /// [`EndpointError`]: `endpoint` is neither `unix:///path` nor an absolute path.
    pub fn new(endpoint: &str) -> Result<Runtime, EndpointError> {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
        if !Path::new(path).is_absolute() {
            return Err(EndpointError::NotUnix { endpoint: endpoint.to_owned() });
        }
        let path = PathBuf::from(path);
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Ok(Runtime {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT),
            channel,
        })
    }

    /// For calls that are not part of CRI.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn version(&self) -> Call<'_, VersionResponse> {
        Box::pin(async move {
            call!(self.runtime.version, "Version", NODE, READ, VersionRequest { version: "0.1.0".to_owned() })
        })
    }

    /// The conditions RuntimeReady and NetworkReady; handlers and features where the runtime tells them. `verbose`
    /// adds the runtime's own configuration as JSON texts.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn status(&self, verbose: bool) -> Call<'_, StatusResponse> {
        Box::pin(async move { call!(self.runtime.status, "Status", NODE, READ, StatusRequest { verbose }) })
    }

    /// The cgroup driver the runtime uses; unimplemented before containerd 2.0.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call. An older runtime
    /// answers that it is unimplemented.
    pub fn cgroup_driver(&self) -> Call<'_, Option<CgroupDriver>> {
        Box::pin(async move {
            let answer: RuntimeConfigResponse =
                call!(self.runtime.runtime_config, "RuntimeConfig", NODE, READ, RuntimeConfigRequest {})?;
            Ok(answer.linux.map(|linux| linux.cgroup_driver()))
        })
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn run_pod_sandbox<'a>(&'a self, config: PodSandboxConfig, handler: &'a str) -> Call<'a, String> {
        Box::pin(async move {
            let name =
                config.metadata.as_ref().map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default();
            let message = RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
            let answer: RunPodSandboxResponse =
                call!(self.runtime.run_pod_sandbox, "RunPodSandbox", &name, SANDBOX, message)?;
            Ok(answer.pod_sandbox_id)
        })
    }

    /// Stops a sandbox and what runs in it; done if there is none.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call for another reason
    /// than that there is none.
    pub fn stop_pod_sandbox<'a>(&'a self, id: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let message = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
            gone(call!(self.runtime.stop_pod_sandbox, "StopPodSandbox", id, CHANGE, message))
        })
    }

    /// Removes a stopped sandbox with its containers; done if there is none.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call for another reason
    /// than that there is none.
    pub fn remove_pod_sandbox<'a>(&'a self, id: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let message = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
            gone(call!(self.runtime.remove_pod_sandbox, "RemovePodSandbox", id, CHANGE, message))
        })
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn pod_sandbox_status<'a>(&'a self, id: &'a str) -> Call<'a, PodSandboxStatus> {
        Box::pin(async move {
            let message = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
            let answer: PodSandboxStatusResponse =
                call!(self.runtime.pod_sandbox_status, "PodSandboxStatus", id, READ, message)?;
            Ok(answer.status.unwrap_or_default())
        })
    }

    /// All sandboxes, or those that carry `label`.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn list_pod_sandboxes<'a>(&'a self, label: Option<(&'a str, &'a str)>) -> Call<'a, Vec<PodSandbox>> {
        Box::pin(async move {
            let filter = label.map(|(key, value)| PodSandboxFilter {
                label_selector: [(key.to_owned(), value.to_owned())].into(),
                ..Default::default()
            });
            let message = ListPodSandboxRequest { filter };
            let answer: ListPodSandboxResponse =
                call!(self.runtime.list_pod_sandbox, "ListPodSandbox", NODE, READ, message)?;
            Ok(answer.items)
        })
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Call<'a, String> {
        Box::pin(async move {
            let name = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
            let message = CreateContainerRequest {
                pod_sandbox_id: sandbox.to_owned(),
                config: Some(config),
                sandbox_config: Some(sandbox_config),
            };
            let answer: CreateContainerResponse =
                call!(self.runtime.create_container, "CreateContainer", &name, CHANGE, message)?;
            Ok(answer.container_id)
        })
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn start_container<'a>(&'a self, id: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let message = StartContainerRequest { container_id: id.to_owned() };
            call!(self.runtime.start_container, "StartContainer", id, CHANGE, message)
                .map(|_: StartContainerResponse| ())
        })
    }

    /// Asks a container to stop and kills it after `grace`; done if there is none.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call for another reason
    /// than that there is none.
    pub fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Call<'a, ()> {
        Box::pin(async move {
            let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
            let message = StopContainerRequest { container_id: id.to_owned(), timeout };
            gone(call!(self.runtime.stop_container, "StopContainer", id, grace + CHANGE, message))
        })
    }

    /// Removes a container; done if there is none.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call for another reason
    /// than that there is none.
    pub fn remove_container<'a>(&'a self, id: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let message = RemoveContainerRequest { container_id: id.to_owned() };
            gone(call!(self.runtime.remove_container, "RemoveContainer", id, CHANGE, message))
        })
    }

    /// All containers, or those that carry `label`.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn list_containers<'a>(&'a self, label: Option<(&'a str, &'a str)>) -> Call<'a, Vec<Container>> {
        Box::pin(async move {
            let filter = label.map(|(key, value)| ContainerFilter {
                label_selector: [(key.to_owned(), value.to_owned())].into(),
                ..Default::default()
            });
            let message = ListContainersRequest { filter };
            let answer: ListContainersResponse =
                call!(self.runtime.list_containers, "ListContainers", NODE, READ, message)?;
            Ok(answer.containers)
        })
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn container_status<'a>(&'a self, id: &'a str) -> Call<'a, ContainerStatus> {
        Box::pin(async move {
            let message = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
            let answer: ContainerStatusResponse =
                call!(self.runtime.container_status, "ContainerStatus", id, READ, message)?;
            Ok(answer.status.unwrap_or_default())
        })
    }

    /// Makes the runtime open a container's log file anew, after rotation.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn reopen_container_log<'a>(&'a self, id: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let message = ReopenContainerLogRequest { container_id: id.to_owned() };
            call!(self.runtime.reopen_container_log, "ReopenContainerLog", id, READ, message)
                .map(|_: ReopenContainerLogResponse| ())
        })
    }

    /// Runs a command in a container and waits for its end, at most `limit` (whole seconds, at least one).
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        command: Vec<String>,
        limit: Duration,
    ) -> Call<'a, ExecSyncResponse> {
        Box::pin(async move {
            let timeout = i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX);
            let message = ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout };
            call!(self.runtime.exec_sync, "ExecSync", id, limit + READ, message)
        })
    }

    /// The one-use URL of a prepared exec session.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn exec(&self, request: ExecRequest) -> Call<'_, String> {
        Box::pin(async move {
            let id = request.container_id.clone();
            let answer: ExecResponse = call!(self.runtime.exec, "Exec", &id, READ, request)?;
            Ok(answer.url)
        })
    }

    /// The one-use URL of a prepared attach session.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn attach(&self, request: AttachRequest) -> Call<'_, String> {
        Box::pin(async move {
            let id = request.container_id.clone();
            let answer: AttachResponse = call!(self.runtime.attach, "Attach", &id, READ, request)?;
            Ok(answer.url)
        })
    }

    /// The one-use URL of a prepared port-forward session.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn port_forward(&self, request: PortForwardRequest) -> Call<'_, String> {
        Box::pin(async move {
            let id = request.pod_sandbox_id.clone();
            let answer: PortForwardResponse =
                call!(self.runtime.port_forward, "PortForward", &id, READ, request)?;
            Ok(answer.url)
        })
    }

    /// What one container uses.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn container_stats<'a>(&'a self, id: &'a str) -> Call<'a, ContainerStats> {
        Box::pin(async move {
            let message = ContainerStatsRequest { container_id: id.to_owned() };
            let answer: ContainerStatsResponse =
                call!(self.runtime.container_stats, "ContainerStats", id, READ, message)?;
            Ok(answer.stats.unwrap_or_default())
        })
    }

    /// What all running containers use.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn list_container_stats(&self) -> Call<'_, Vec<ContainerStats>> {
        Box::pin(async move {
            let message = ListContainerStatsRequest { filter: None };
            let answer: ListContainerStatsResponse =
                call!(self.runtime.list_container_stats, "ListContainerStats", NODE, READ, message)?;
            Ok(answer.stats)
        })
    }

    /// The stream of container events; unimplemented before containerd 1.7. It has no deadline: it ends with the
    /// connection.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call. An older runtime
    /// answers that it is unimplemented.
    pub fn container_events(&self) -> Call<'_, Streaming<ContainerEventResponse>> {
        Box::pin(async move {
            match self.runtime.clone().get_container_events(GetEventsRequest {}).await {
                Ok(stream) => Ok(stream.into_inner()),
                Err(source) => Err(CallError { call: "GetContainerEvents", object: NODE.to_owned(), source }),
            }
        })
    }

    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn list_images(&self) -> Call<'_, Vec<Image>> {
        Box::pin(async move {
            let answer: ListImagesResponse =
                call!(self.images.list_images, "ListImages", NODE, READ, ListImagesRequest { filter: None })?;
            Ok(answer.images)
        })
    }

    /// The image, if it is present.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn image_status<'a>(&'a self, image: &'a str) -> Call<'a, Option<Image>> {
        Box::pin(async move {
            let message = ImageStatusRequest { image: Some(spec(image)), verbose: false };
            let answer: Result<ImageStatusResponse, CallError> =
                call!(self.images.image_status, "ImageStatus", image, READ, message);
            match answer {
                Ok(answer) => Ok(answer.image),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Pulls an image and returns its reference.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, or could not pull the image; its text says why.
    pub fn pull_image<'a>(
        &'a self,
        image: &'a str,
        auth: Option<AuthConfig>,
        sandbox: Option<PodSandboxConfig>,
    ) -> Call<'a, String> {
        Box::pin(async move {
            let message = PullImageRequest { image: Some(spec(image)), auth, sandbox_config: sandbox };
            let answer: PullImageResponse = call!(self.images.pull_image, "PullImage", image, PULL, message)?;
            Ok(answer.image_ref)
        })
    }

    /// Removes an image; done if there is none.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call for another reason
    /// than that there is none.
    pub fn remove_image<'a>(&'a self, image: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let message = RemoveImageRequest { image: Some(spec(image)) };
            gone(call!(self.images.remove_image, "RemoveImage", image, CHANGE, message))
        })
    }

    /// Where images are kept and what they use.
    ///
    /// # Errors
    /// [`CallError`]: the runtime cannot be reached, did not answer in time, or refused the call.
    pub fn image_filesystems(&self) -> Call<'_, Vec<FilesystemUsage>> {
        Box::pin(async move {
            let answer: ImageFsInfoResponse =
                call!(self.images.image_fs_info, "ImageFsInfo", NODE, READ, ImageFsInfoRequest {})?;
            Ok(answer.image_filesystems)
        })
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..Default::default() }
}

fn gone<T>(answer: Result<T, CallError>) -> Result<(), CallError> {
    match answer {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
