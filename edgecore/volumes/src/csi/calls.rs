//! Calls of a driver's node service, each with its deadline.

use std::path::Path;
use std::time::Duration;

use plugins::csi::node_client::NodeClient;
use plugins::csi::node_service_capability::{Type, rpc};
use plugins::csi::volume_capability::access_mode::Mode;
use plugins::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use plugins::csi::*;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::CsiVolume;

/// A driver may format a disk, or wait for one.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// A call the driver refused or never answered.
#[derive(Debug, thiserror::Error)]
#[error("calling {call}")]
pub struct DriverCallError {
    pub call: &'static str,
    pub source: tonic::Status,
}

/// What a driver can do besides publishing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    pub stages: bool,
    /// It gives the volume to the pod's group itself.
    pub sets_group: bool,
    /// It knows the modes for one and for many writers on one node.
    pub has_single_modes: bool,
}

#[derive(Clone)]
pub(super) struct Driver(NodeClient<Channel>);

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Driver {
    pub(super) fn at(socket: &Path) -> Driver {
        Driver(NodeClient::new(plugins::channel(socket)))
    }

    pub(super) async fn abilities(&self) -> Result<Abilities, DriverCallError> {
        let call = "NodeGetCapabilities";
        let answer = self.0.clone().node_get_capabilities(request(NodeGetCapabilitiesRequest {})).await;
        let answer = answer.map_err(|source| DriverCallError { call, source })?.into_inner();
        let has = |wanted: rpc::Type| {
            answer.capabilities.iter().any(|known| match &known.r#type {
                Some(Type::Rpc(known)) => known.r#type() == wanted,
                None => false,
            })
        };
        Ok(Abilities {
            stages: has(rpc::Type::StageUnstageVolume),
            sets_group: has(rpc::Type::VolumeMountGroup),
            has_single_modes: has(rpc::Type::SingleNodeMultiWriter),
        })
    }

    /// The node's name in the driver's terms.
    pub(super) async fn node_id(&self) -> Result<String, DriverCallError> {
        let answer = self.0.clone().node_get_info(request(NodeGetInfoRequest {})).await;
        let answer = answer.map_err(|source| DriverCallError { call: "NodeGetInfo", source })?;
        Ok(answer.into_inner().node_id)
    }

    pub(super) async fn stage(
        &self,
        wanted: &CsiVolume,
        at: &Path,
        abilities: &Abilities,
    ) -> Result<(), DriverCallError> {
        let message = NodeStageVolumeRequest {
            volume_id: wanted.handle.clone(),
            publish_context: wanted.publish_context.clone(),
            staging_target_path: text(at),
            volume_capability: Some(capability(wanted, abilities)),
            secrets: wanted.stage_secrets.clone(),
            volume_context: wanted.attributes.clone(),
        };
        let done = self.0.clone().node_stage_volume(request(message)).await;
        done.map(|_| ()).map_err(|source| DriverCallError { call: "NodeStageVolume", source })
    }

    pub(super) async fn publish(
        &self,
        wanted: &CsiVolume,
        staging: Option<&Path>,
        target: &Path,
        abilities: &Abilities,
    ) -> Result<(), DriverCallError> {
        let message = NodePublishVolumeRequest {
            volume_id: wanted.handle.clone(),
            publish_context: wanted.publish_context.clone(),
            staging_target_path: staging.map(text).unwrap_or_default(),
            target_path: text(target),
            volume_capability: Some(capability(wanted, abilities)),
            readonly: wanted.is_read_only,
            secrets: wanted.publish_secrets.clone(),
            volume_context: wanted.attributes.clone(),
        };
        let done = self.0.clone().node_publish_volume(request(message)).await;
        done.map(|_| ()).map_err(|source| DriverCallError { call: "NodePublishVolume", source })
    }

    /// Done if the driver does not know the volume.
    pub(super) async fn unpublish(&self, handle: &str, target: &Path) -> Result<(), DriverCallError> {
        let message = NodeUnpublishVolumeRequest { volume_id: handle.to_owned(), target_path: text(target) };
        let done = self.0.clone().node_unpublish_volume(request(message)).await;
        gone("NodeUnpublishVolume", done)
    }

    /// Done if the driver does not know the volume.
    pub(super) async fn unstage(&self, handle: &str, at: &Path) -> Result<(), DriverCallError> {
        let message =
            NodeUnstageVolumeRequest { volume_id: handle.to_owned(), staging_target_path: text(at) };
        let done = self.0.clone().node_unstage_volume(request(message)).await;
        gone("NodeUnstageVolume", done)
    }
}

fn gone<T>(call: &'static str, done: Result<T, tonic::Status>) -> Result<(), DriverCallError> {
    match done {
        Err(source) if source.code() != Code::NotFound => Err(DriverCallError { call, source }),
        _ => Ok(()),
    }
}

fn capability(wanted: &CsiVolume, abilities: &Abilities) -> VolumeCapability {
    let group = wanted.group.filter(|_| abilities.sets_group).map(|group| group.to_string());
    let mount = MountVolume {
        fs_type: wanted.fs_type.clone(),
        mount_flags: wanted.mount_options.clone(),
        volume_mount_group: group.unwrap_or_default(),
    };
    let mode = mode(&wanted.access_mode, abilities);
    VolumeCapability {
        access_type: Some(AccessType::Mount(mount)),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

fn mode(wanted: &str, abilities: &Abilities) -> Mode {
    match wanted {
        "ReadWriteMany" => Mode::MultiNodeMultiWriter,
        "ReadOnlyMany" => Mode::MultiNodeReaderOnly,
        "ReadWriteOncePod" if abilities.has_single_modes => Mode::SingleNodeSingleWriter,
        _ if abilities.has_single_modes => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    }
}
