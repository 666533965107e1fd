//! A CSI driver whose volumes are folders: staging and publishing bind them. It remembers what it was told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use plugins::csi::node_server::{Node, NodeServer};
use plugins::csi::node_service_capability::{Rpc, Type, rpc};
use plugins::csi::*;
use plugins::registration::registration_server::{Registration, RegistrationServer};
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use rustix::mount::UnmountFlags;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Its name.
pub const NAME: &str = "folders.example.com";

/// A running driver; it is gone when it is dropped, with its sockets.
pub struct Driver {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    sockets: Vec<PathBuf>,
    service: Service,
}

#[derive(Clone)]
struct Service {
    volumes: PathBuf,
    endpoint: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Driver {
    /// Serves below `folder`, and registers in the kubelet's folder `root`. To be called within a runtime.
    pub fn start(folder: &Path, root: &Path) -> Result<Driver> {
        let registry = root.join("plugins_registry");
        std::fs::create_dir_all(&registry)?;
        std::fs::create_dir_all(folder)?;
        let (socket, endpoint) = (registry.join("folders-reg.sock"), folder.join("csi.sock"));
        let service =
            Service { volumes: folder.join("volumes"), endpoint: endpoint.clone(), calls: Arc::default() };
        let nodes = UnixListenerStream::new(UnixListener::bind(&endpoint)?);
        let node = Server::builder().add_service(NodeServer::new(service.clone()));
        let registrations = UnixListenerStream::new(UnixListener::bind(&socket)?);
        let registration = Server::builder().add_service(RegistrationServer::new(service.clone()));
        // Whoever waits for a volume sees that they have ended.
        let tasks = vec![
            tokio::spawn(async move { drop(node.serve_with_incoming(nodes).await) }),
            tokio::spawn(async move { drop(registration.serve_with_incoming(registrations).await) }),
        ];
        Ok(Driver { tasks, sockets: vec![socket, endpoint], service })
    }

    /// What it was told, in order: the call and the volume.
    pub fn calls(&self) -> Vec<String> {
        self.service.lock().clone()
    }

    /// Where the data of a volume is.
    pub fn data(&self, handle: &str) -> PathBuf {
        self.service.volumes.join(handle)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.abort());
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: &str, what: &str) {
        self.lock().push(format!("{call} {what}"));
    }
}

fn bind(source: &Path, target: &str) -> Result<(), Status> {
    std::fs::create_dir_all(source)?;
    std::fs::create_dir_all(target)?;
    rustix::mount::mount_bind(source, target).map_err(|error| Status::internal(error.to_string()))
}

fn unbind(target: &str) -> Result<(), Status> {
    rustix::mount::unmount(target, UnmountFlags::empty())
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(std::fs::remove_dir(target)?)
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: NAME.to_owned(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.note("registered", &request.into_inner().plugin_registered.to_string());
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for Service {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let NodeStageVolumeRequest { volume_id, staging_target_path: at, secrets, .. } = request.into_inner();
        self.note("stage", &format!("{volume_id} {}", secrets.get("key").map_or("", String::as_str)));
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        if !table.lines().any(|line| line.split(' ').nth(4) == Some(at.as_str())) {
            bind(&self.volumes.join(&volume_id), &at)?;
        }
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note("unstage", &request.volume_id);
        unbind(&request.staging_target_path)?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let pod = request.volume_context.get("csi.storage.k8s.io/pod.name").map_or("", String::as_str);
        let (volume, staged) = (&request.volume_id, &request.staging_target_path);
        let source = match staged.is_empty() {
            true => {
                self.note("publish inline for", pod);
                self.volumes.join(volume)
            }
            false => {
                self.note("publish", volume);
                PathBuf::from(staged)
            }
        };
        bind(&source, &request.target_path)?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let inline = request.volume_id.starts_with("csi-");
        self.note("unpublish", if inline { "inline" } else { &request.volume_id });
        unbind(&request.target_path)?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let stages = Rpc { r#type: rpc::Type::StageUnstageVolume.into() };
        let capabilities = vec![NodeServiceCapability { r#type: Some(Type::Rpc(stages)) }];
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: "edge-1".to_owned(), max_volumes_per_node: 0 }))
    }
}
