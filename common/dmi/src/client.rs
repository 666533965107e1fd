//! Calls over a unix socket: EdgeCore to a mapper, a mapper to EdgeCore.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use crate::v1beta1::device_manager_service_client::DeviceManagerServiceClient;
use crate::v1beta1::device_mapper_service_client::DeviceMapperServiceClient;
use crate::v1beta1::{
    CreateDeviceModelRequest, Device, DeviceModel, DeviceStatus, MapperInfo, MapperRegisterRequest,
    MapperRegisterResponse, RegisterDeviceRequest, RemoveDeviceModelRequest, RemoveDeviceRequest,
    ReportDeviceStatesRequest, ReportDeviceStatusRequest, UpdateDeviceModelRequest, UpdateDeviceRequest,
};

/// Deadline of a call to a mapper (EdgeCore's, docs/protocol/devices.md 5.1).
const MAPPER_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline of a call to EdgeCore. Go mappers allow one second; ours are more patient with a busy disk.
const MANAGER_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum DmiCallError {
    #[error("connecting to {path}")]
    Connect { path: PathBuf, source: tonic::transport::Error },
    #[error("{call} at {path}: {source}")]
    Refused { call: &'static str, path: PathBuf, source: Box<Status> },
}

impl DmiCallError {
    /// True if the peer could not be reached or did not answer, so that the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            DmiCallError::Connect { .. } => true,
            DmiCallError::Refused { source, .. } => {
                matches!(
                    source.code(),
                    Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
                )
            }
        }
    }
}

async fn channel(path: &Path, deadline: Duration) -> Result<Channel, DmiCallError> {
    let socket = path.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost").timeout(deadline).connect_timeout(deadline);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| DmiCallError::Connect { path: path.to_owned(), source })
}

/// A mapper, called by EdgeCore. Each call connects anew: mappers come and go.
#[derive(Clone, Debug)]
pub struct Mapper {
    path: PathBuf,
}

impl Mapper {
    pub fn at(path: &Path) -> Mapper {
        Mapper { path: path.to_owned() }
    }

    async fn client(&self) -> Result<DeviceMapperServiceClient<Channel>, DmiCallError> {
        Ok(DeviceMapperServiceClient::new(channel(&self.path, MAPPER_DEADLINE).await?))
    }

    fn refused(&self, call: &'static str) -> impl Fn(Status) -> DmiCallError {
        let path = self.path.clone();
        move |status| DmiCallError::Refused { call, path: path.clone(), source: Box::new(status) }
    }

    /// # Errors
    /// [`DmiCallError`]: the mapper's socket cannot be connected to, or the mapper refused the call or did not answer
    /// within 10 s.
    pub async fn register_device(&self, device: Device) -> Result<(), DmiCallError> {
        let request = RegisterDeviceRequest { device: Some(device) };
        self.client()
            .await?
            .register_device(request)
            .await
            .map(|_| ())
            .map_err(self.refused("RegisterDevice"))
    }

    /// # Errors
    /// [`DmiCallError`]: the mapper's socket cannot be connected to, or the mapper refused the call or did not answer
    /// within 10 s.
    pub async fn update_device(&self, device: Device) -> Result<(), DmiCallError> {
        let request = UpdateDeviceRequest { device: Some(device) };
        self.client().await?.update_device(request).await.map(|_| ()).map_err(self.refused("UpdateDevice"))
    }

    /// # Errors
    /// [`DmiCallError`]: the mapper's socket cannot be connected to, or the mapper refused the call or did not answer
    /// within 10 s.
    pub async fn remove_device(&self, namespace: &str, name: &str) -> Result<(), DmiCallError> {
        let request =
            RemoveDeviceRequest { device_name: name.to_owned(), device_namespace: namespace.to_owned() };
        self.client().await?.remove_device(request).await.map(|_| ()).map_err(self.refused("RemoveDevice"))
    }

    /// # Errors
    /// [`DmiCallError`]: the mapper's socket cannot be connected to, or the mapper refused the call or did not answer
    /// within 10 s.
    pub async fn create_model(&self, model: DeviceModel) -> Result<(), DmiCallError> {
        let request = CreateDeviceModelRequest { model: Some(model) };
        let answer = self.client().await?.create_device_model(request).await;
        answer.map(|_| ()).map_err(self.refused("CreateDeviceModel"))
    }

    /// # Errors
    /// [`DmiCallError`]: the mapper's socket cannot be connected to, or the mapper refused the call or did not answer
    /// within 10 s.
    pub async fn update_model(&self, model: DeviceModel) -> Result<(), DmiCallError> {
        let request = UpdateDeviceModelRequest { model: Some(model) };
        let answer = self.client().await?.update_device_model(request).await;
        answer.map(|_| ()).map_err(self.refused("UpdateDeviceModel"))
    }

    /// # Errors
    /// [`DmiCallError`]: the mapper's socket cannot be connected to, or the mapper refused the call or did not answer
    /// within 10 s.
    pub async fn remove_model(&self, namespace: &str, name: &str) -> Result<(), DmiCallError> {
        let request =
            RemoveDeviceModelRequest { model_name: name.to_owned(), model_namespace: namespace.to_owned() };
        let answer = self.client().await?.remove_device_model(request).await;
        answer.map(|_| ()).map_err(self.refused("RemoveDeviceModel"))
    }
}

/// EdgeCore, called by a mapper over one connection that is kept.
#[derive(Clone, Debug)]
pub struct Manager {
    path: PathBuf,
    client: DeviceManagerServiceClient<Channel>,
}

impl Manager {
    /// # Errors
    /// [`DmiCallError`]: the socket of EdgeCore cannot be connected to.
    pub async fn connect(path: &Path) -> Result<Manager, DmiCallError> {
        let client = DeviceManagerServiceClient::new(channel(path, MANAGER_DEADLINE).await?);
        Ok(Manager { path: path.to_owned(), client })
    }

    fn refused(&self, call: &'static str) -> impl Fn(Status) -> DmiCallError {
        let path = self.path.clone();
        move |status| DmiCallError::Refused { call, path: path.clone(), source: Box::new(status) }
    }

    /// Registers the mapper; with `with_data` EdgeCore answers the models and devices it should serve.
    ///
    /// # Errors
    /// [`DmiCallError`]: EdgeCore refused the call or did not answer within 5 s, or the connection is gone.
    pub async fn register(
        &self,
        mapper: MapperInfo,
        with_data: bool,
    ) -> Result<MapperRegisterResponse, DmiCallError> {
        let request = MapperRegisterRequest { with_data, mapper: Some(mapper) };
        let answer = self.client.clone().mapper_register(request).await;
        answer.map(|answer| answer.into_inner()).map_err(self.refused("MapperRegister"))
    }

    /// # Errors
    /// [`DmiCallError`]: EdgeCore refused the call or did not answer within 5 s, or the connection is gone.
    pub async fn report_twins(
        &self,
        namespace: &str,
        name: &str,
        status: DeviceStatus,
    ) -> Result<(), DmiCallError> {
        let request = ReportDeviceStatusRequest {
            device_name: name.to_owned(),
            device_namespace: namespace.to_owned(),
            reported_device: Some(status),
        };
        let answer = self.client.clone().report_device_status(request).await;
        answer.map(|_| ()).map_err(self.refused("ReportDeviceStatus"))
    }

    /// # Errors
    /// [`DmiCallError`]: EdgeCore refused the call or did not answer within 5 s, or the connection is gone.
    pub async fn report_state(&self, namespace: &str, name: &str, state: &str) -> Result<(), DmiCallError> {
        let request = ReportDeviceStatesRequest {
            device_name: name.to_owned(),
            device_namespace: namespace.to_owned(),
            state: state.to_owned(),
        };
        let answer = self.client.clone().report_device_states(request).await;
        answer.map(|_| ()).map_err(self.refused("ReportDeviceStates"))
    }
}
