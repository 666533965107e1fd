//! A device plugin with cameras. It remembers what it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use plugins::device::device_plugin_server::{DevicePlugin, DevicePluginServer};
use plugins::device::registration_client::RegistrationClient;
use plugins::device::*;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

pub(crate) const CAMERA: &str = "example.com/camera";

/// A running plugin; it is gone when it is dropped.
pub(crate) struct Plugin {
    folder: PathBuf,
    socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
    service: Service,
    devices: watch::Sender<Vec<Device>>,
}

#[derive(Clone)]
struct Service {
    calls: Arc<Mutex<Vec<String>>>,
    devices: watch::Receiver<Vec<Device>>,
    /// What containers get to read.
    file: PathBuf,
}

impl Plugin {
    /// Serves beside the kubelet's socket. `file` is mounted into containers.
    pub(crate) fn start(root: &Path, file: &Path) -> Plugin {
        let folder = root.join("device-plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("camera.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (devices, list) = watch::channel(Vec::new());
        let service = Service { calls: Arc::default(), devices: list, file: file.to_owned() };
        let server = Server::builder().add_service(DevicePluginServer::new(service.clone()));
        let task = tokio::spawn(async move {
            server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
        });
        Plugin { folder, socket, task, service, devices }
    }

    /// The devices from now on: ids of healthy ones, and of broken ones.
    pub(crate) fn list(&self, healthy: &[&str], broken: &[&str]) {
        let device = |health: &'static str| {
            move |id: &&str| Device { id: (*id).to_owned(), health: health.to_owned() }
        };
        let all = healthy.iter().map(device("Healthy")).chain(broken.iter().map(device("Unhealthy")));
        self.devices.send_replace(all.collect());
    }

    pub(crate) async fn register(&self) -> Result<(), Status> {
        let channel = plugins::channel(&self.folder.join("kubelet.sock"));
        let request = RegisterRequest {
            version: "v1beta1".to_owned(),
            endpoint: "camera.sock".to_owned(),
            resource_name: CAMERA.to_owned(),
            options: Some(options()),
        };
        RegistrationClient::new(channel).register(request).await.map(|_| ())
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.service.calls.lock().unwrap().clone()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.task.abort();
        std::fs::remove_file(&self.socket).unwrap();
    }
}

fn options() -> DevicePluginOptions {
    DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true }
}

type Lists = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(options()))
    }

    type ListAndWatchStream = Lists;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Lists>, Status> {
        let lists =
            WatchStream::new(self.devices.clone()).map(|devices| Ok(ListAndWatchResponse { devices }));
        Ok(Response::new(Box::pin(lists)))
    }

    /// The last ones.
    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let one = request.into_inner().container_requests.remove(0);
        let mut device_ids = one.available_device_ids;
        device_ids.reverse();
        let container_responses = vec![ContainerPreferredAllocationResponse { device_ids }];
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests.remove(0).device_ids;
        self.calls.lock().unwrap().push(format!("allocate {}", ids.join(" ")));
        if ids.iter().any(|id| id == "stuck") {
            return Err(Status::internal("the shutter is stuck"));
        }
        let devices = ids.iter().map(|id| DeviceSpec {
            container_path: format!("/dev/camera-{id}"),
            host_path: "/dev/null".to_owned(),
            permissions: "rw".to_owned(),
        });
        let answer = ContainerAllocateResponse {
            envs: [("CAMERAS".to_owned(), ids.join(","))].into(),
            mounts: vec![Mount {
                container_path: "/etc/camera".to_owned(),
                host_path: self.file.to_string_lossy().into_owned(),
                read_only: true,
            }],
            devices: devices.collect(),
            annotations: [("example.com/cameras".to_owned(), ids.join(","))].into(),
            cdi_devices: Vec::new(),
        };
        Ok(Response::new(AllocateResponse { container_responses: vec![answer] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        let ids = request.into_inner().device_ids;
        self.calls.lock().unwrap().push(format!("prepare {}", ids.join(" ")));
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
