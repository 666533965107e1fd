//! The DMI service that mappers call: turns calls into requests of the room.

use std::collections::BTreeMap;

use dmi::Peer;
use dmi::v1beta1::device_manager_service_server::DeviceManagerService;
use dmi::v1beta1::{
    MapperInfo, MapperRegisterRequest, MapperRegisterResponse, ReportDeviceStatesRequest,
    ReportDeviceStatesResponse, ReportDeviceStatusRequest, ReportDeviceStatusResponse, Twin,
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

/// What mappers ask the room.
pub(super) enum MapperRequest {
    /// A mapper is there and wants its devices.
    Register {
        mapper: MapperInfo,
        with_data: bool,
        peer: Peer,
        answer: oneshot::Sender<Result<MapperRegisterResponse, Status>>,
    },
    /// Values of a device. Answered when they are durable.
    Twins {
        namespace: String,
        name: String,
        twins: Vec<Twin>,
        peer: Peer,
        answer: oneshot::Sender<Result<(), Status>>,
    },
    State {
        namespace: String,
        name: String,
        state: String,
        peer: Peer,
        answer: oneshot::Sender<Result<(), Status>>,
    },
}

/// The service; clones share the room's inbox.
#[derive(Clone)]
pub(super) struct Service {
    pub room: mpsc::Sender<MapperRequest>,
}

impl Service {
    async fn ask<T>(&self, request: MapperRequest, answer: oneshot::Receiver<T>) -> Result<T, Status> {
        // A full inbox is back-pressure on mappers, which have deadlines of their own.
        self.room.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Status::resource_exhausted("EdgeCore has too many reports waiting")
            }
            mpsc::error::TrySendError::Closed(_) => Status::unavailable("EdgeCore is stopping"),
        })?;
        answer.await.map_err(|_| Status::unavailable("EdgeCore is stopping"))
    }
}

#[tonic::async_trait]
impl DeviceManagerService for Service {
    async fn mapper_register(
        &self,
        request: Request<MapperRegisterRequest>,
    ) -> Result<Response<MapperRegisterResponse>, Status> {
        let peer = peer(&request);
        let MapperRegisterRequest { with_data, mapper } = request.into_inner();
        let mapper = mapper.filter(|mapper| !mapper.protocol.is_empty());
        let mapper = mapper.ok_or_else(|| Status::invalid_argument("mapper.protocol is empty"))?;
        let (answer, reply) = oneshot::channel();
        let reply = self.ask(MapperRequest::Register { mapper, with_data, peer, answer }, reply).await??;
        Ok(Response::new(reply))
    }

    async fn report_device_status(
        &self,
        request: Request<ReportDeviceStatusRequest>,
    ) -> Result<Response<ReportDeviceStatusResponse>, Status> {
        let peer = peer(&request);
        let ReportDeviceStatusRequest { device_name, reported_device, device_namespace } =
            request.into_inner();
        let twins = reported_device.map(|status| status.twins).filter(|twins| !twins.is_empty());
        let twins = twins.ok_or_else(|| Status::invalid_argument("reportedDevice.twins is empty"))?;
        let (answer, reply) = oneshot::channel();
        let (namespace, name) = (device_namespace, device_name);
        let request = MapperRequest::Twins { namespace, name, twins, peer, answer };
        self.ask(request, reply).await??;
        Ok(Response::new(ReportDeviceStatusResponse {}))
    }

    async fn report_device_states(
        &self,
        request: Request<ReportDeviceStatesRequest>,
    ) -> Result<Response<ReportDeviceStatesResponse>, Status> {
        let peer = peer(&request);
        let ReportDeviceStatesRequest { device_name, device_namespace, state } = request.into_inner();
        if device_name.is_empty() || state.is_empty() {
            return Err(Status::invalid_argument("deviceName and state must be given"));
        }
        let (answer, reply) = oneshot::channel();
        let (namespace, name) = (device_namespace, device_name);
        let request = MapperRequest::State { namespace, name, state, peer, answer };
        self.ask(request, reply).await??;
        Ok(Response::new(ReportDeviceStatesResponse {}))
    }
}

/// The program a call came from.
fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().copied().unwrap_or_else(Peer::unknown)
}

/// A mapper's report as a twin update: what the device reports is actual, what it was told is observed.
pub(super) fn wanted(twins: &[Twin]) -> BTreeMap<String, Reported> {
    let reported = |twin: &Twin| {
        let kind = twin.reported.as_ref().and_then(|side| side.metadata.get("type")).map(String::as_str);
        Reported {
            actual: twin.reported.as_ref().map(|side| side.value.clone()),
            observed: twin.observed_desired.as_ref().map(|side| side.value.clone()),
            kind: kind.map(kind_name),
        }
    };
    twins.iter().map(|twin| (twin.property_name.clone(), reported(twin))).collect()
}

/// One property of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reported {
    pub actual: Option<String>,
    pub observed: Option<String>,
    /// What the mapper says the value is; `None`: nothing.
    pub kind: Option<&'static str>,
}

/// The twin type of a mapper's type name, which may be a model's (`FLOAT`) or its own.
pub(super) fn kind_name(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "int" | "integer" => "int",
        "float" | "double" => "float",
        "boolean" => "boolean",
        _ => "string",
    }
}
