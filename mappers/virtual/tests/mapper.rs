//! The whole mapper against a stand-in for EdgeCore, over real sockets.
#![allow(clippy::unwrap_used)] // clippy sees functions beside the tests as not tests

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dmi::v1beta1::device_manager_service_server::{DeviceManagerService, DeviceManagerServiceServer};
use dmi::v1beta1::{
    CustomizedValue, Device, DeviceModel, DeviceModelSpec, DeviceProperty, DeviceSpec, DeviceStatus,
    GetDeviceRequest, MapperRegisterRequest, MapperRegisterResponse, ModelProperty, ProtocolConfig,
    ReportDeviceStatesRequest, ReportDeviceStatesResponse, ReportDeviceStatusRequest,
    ReportDeviceStatusResponse, Twin, TwinProperty,
};
use dmi::{Mapper as Calls, Socket};
use mapper_sdk::{Mapper, Settings};
use mapper_virtual::Thermometer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

const SOON: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Event {
    Registered(MapperRegisterRequest),
    Twins(ReportDeviceStatusRequest),
    State(ReportDeviceStatesRequest),
}

#[derive(Clone)]
struct Edge {
    events: mpsc::Sender<Event>,
    answer: Arc<Mutex<MapperRegisterResponse>>,
}

#[tonic::async_trait]
impl DeviceManagerService for Edge {
    async fn mapper_register(
        &self,
        request: Request<MapperRegisterRequest>,
    ) -> Result<Response<MapperRegisterResponse>, Status> {
        let _ = self.events.send(Event::Registered(request.into_inner())).await;
        Ok(Response::new(self.answer.lock().unwrap().clone()))
    }

    async fn report_device_status(
        &self,
        request: Request<ReportDeviceStatusRequest>,
    ) -> Result<Response<ReportDeviceStatusResponse>, Status> {
        let _ = self.events.send(Event::Twins(request.into_inner())).await;
        Ok(Response::new(ReportDeviceStatusResponse {}))
    }

    async fn report_device_states(
        &self,
        request: Request<ReportDeviceStatesRequest>,
    ) -> Result<Response<ReportDeviceStatesResponse>, Status> {
        let _ = self.events.send(Event::State(request.into_inner())).await;
        Ok(Response::new(ReportDeviceStatesResponse {}))
    }
}

/// EdgeCore's stand-in on a socket.
struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    events: mpsc::Receiver<Event>,
}

fn start_edge(path: &Path, answer: MapperRegisterResponse) -> Running {
    let (sender, events) = mpsc::channel(10_000);
    let edge = Edge { events: sender, answer: Arc::new(Mutex::new(answer)) };
    let socket = Socket::bind(path).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(socket.serve(DeviceManagerServiceServer::new(edge), stop.clone()));
    Running { stop, task, events }
}

impl Running {
    async fn event(&mut self) -> Event {
        tokio::time::timeout(SOON, self.events.recv()).await.expect("nothing came").unwrap()
    }

    async fn registration(&mut self) -> MapperRegisterRequest {
        loop {
            if let Event::Registered(request) = self.event().await {
                return request;
            }
        }
    }

    async fn state(&mut self) -> ReportDeviceStatesRequest {
        loop {
            if let Event::State(request) = self.event().await {
                return request;
            }
        }
    }

    /// The next twin of `property` for which `holds`.
    async fn twin(&mut self, property: &str, holds: impl Fn(&Twin) -> bool) -> Twin {
        loop {
            let Event::Twins(request) = self.event().await else { continue };
            assert_eq!(
                (request.device_namespace.as_str(), request.device_name.as_str()),
                ("default", "therm")
            );
            let twins = request.reported_device.unwrap().twins;
            if let Some(twin) = twins.into_iter().find(|twin| twin.property_name == property && holds(twin)) {
                return twin;
            }
        }
    }
}

fn reported(twin: &Twin) -> &str {
    &twin.reported.as_ref().unwrap().value
}

fn model() -> DeviceModel {
    let property = |name: &str, kind: &str, access: &str| ModelProperty {
        name: name.into(),
        r#type: kind.into(),
        access_mode: access.into(),
        ..ModelProperty::default()
    };
    let properties = vec![
        property("temperature", "FLOAT", "ReadOnly"),
        property("threshold", "FLOAT", "ReadWrite"),
        property("alarm", "BOOLEAN", "ReadOnly"),
    ];
    let spec = DeviceModelSpec { properties, ..DeviceModelSpec::default() };
    DeviceModel { name: "thermometer".into(), spec: Some(spec), namespace: "default".into() }
}

fn device(threshold: &str) -> Device {
    let property = |name: &str, desired: &str| DeviceProperty {
        name: name.into(),
        desired: Some(TwinProperty { value: desired.into(), ..TwinProperty::default() }),
        collect_cycle: 20,
        report_to_cloud: true,
        ..DeviceProperty::default()
    };
    let start = dmi::any_from_json(&serde_json::json!(30)).unwrap();
    let protocol = ProtocolConfig {
        protocol_name: "virtual".into(),
        config_data: Some(CustomizedValue { data: [("start".into(), start)].into() }),
    };
    let spec = DeviceSpec {
        device_model_reference: "thermometer".into(),
        protocol: Some(protocol),
        properties: vec![
            property("temperature", ""),
            property("threshold", threshold),
            property("alarm", ""),
        ],
        ..DeviceSpec::default()
    };
    let status = DeviceStatus { report_to_cloud: true, report_cycle: 20, ..DeviceStatus::default() };
    Device { name: "therm".into(), spec: Some(spec), status: Some(status), namespace: "default".into() }
}

struct House {
    folder: tempfile::TempDir,
    stop: CancellationToken,
    mapper: tokio::task::JoinHandle<()>,
}

impl House {
    fn start() -> House {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            name: "virtual-mapper".into(),
            version: "v1".into(),
            api_version: "v1.0.0".into(),
            protocol: "virtual".into(),
            socket: folder.path().join("virtual.sock"),
            edgecore: folder.path().join("dmi.sock"),
        };
        let stop = CancellationToken::new();
        let mapper = Mapper::build(settings, Thermometer::open).unwrap();
        let running = stop.clone();
        let mapper = tokio::spawn(async move { mapper.run(running).await });
        House { folder, stop, mapper }
    }

    fn edge_socket(&self) -> PathBuf {
        self.folder.path().join("dmi.sock")
    }

    fn calls(&self) -> Calls {
        Calls::at(&self.folder.path().join("virtual.sock"))
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.mapper).await.expect("does not stop").unwrap();
    }
}

#[tokio::test]
async fn a_device_lives_from_registration_to_removal() {
    let house = House::start();
    // The mapper waits for EdgeCore.
    let mut edge = start_edge(&house.edge_socket(), MapperRegisterResponse::default());
    let request = edge.registration().await;
    assert!(request.with_data);
    let mapper = request.mapper.unwrap();
    assert_eq!((mapper.name.as_str(), mapper.protocol.as_str()), ("virtual-mapper", "virtual"));
    assert!(mapper.address.ends_with(b"virtual.sock"));

    let calls = house.calls();
    calls.create_model(model()).await.unwrap();
    calls.register_device(device("25")).await.unwrap();
    calls.register_device(device("25")).await.unwrap();
    let twin = edge.twin("temperature", |_| true).await;
    assert!(reported(&twin).starts_with("30"), "{twin:?}");
    let metadata = &twin.reported.as_ref().unwrap().metadata;
    assert_eq!(metadata["type"], "float");
    assert!(metadata["timestamp"].parse::<i64>().unwrap() > 0);
    edge.twin("alarm", |twin| reported(twin) == "true").await;
    assert_eq!(edge.state().await.state, "online");

    calls.update_device(device("99.5")).await.unwrap();
    let twin = edge.twin("threshold", |twin| reported(twin) == "99.5").await;
    assert_eq!(twin.observed_desired.unwrap().value, "99.5");
    edge.twin("alarm", |twin| reported(twin) == "false").await;

    calls.remove_device("default", "therm").await.unwrap();
    calls.remove_device("default", "therm").await.unwrap();
    while edge.events.try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(edge.events.try_recv().is_err(), "reports after removal");
    house.end().await;
}

#[tokio::test]
async fn the_mapper_registers_again_after_edgecore_restarted() {
    let house = House::start();
    let known = MapperRegisterResponse { model_list: vec![model()], device_list: vec![device("1")] };
    let mut edge = start_edge(&house.edge_socket(), known.clone());
    edge.registration().await;
    edge.twin("temperature", |_| true).await;
    edge.stop.cancel();
    edge.task.await.unwrap();
    let mut edge = start_edge(&house.edge_socket(), known);
    edge.registration().await;
    edge.twin("temperature", |_| true).await;
    house.end().await;
}

#[tokio::test]
async fn messages_that_lack_everything_are_survived() {
    let house = House::start();
    let mut edge = start_edge(&house.edge_socket(), MapperRegisterResponse::default());
    edge.registration().await;
    let calls = house.calls();
    assert!(calls.register_device(Device::default()).await.is_err());
    assert!(calls.create_model(DeviceModel::default()).await.is_err());
    let bare = Device { name: "bare".into(), ..Device::default() };
    calls.register_device(bare.clone()).await.unwrap();
    let spec = DeviceSpec { properties: vec![DeviceProperty::default()], ..DeviceSpec::default() };
    calls.update_device(Device { spec: Some(spec), ..bare }).await.unwrap();
    calls.remove_model("default", "no-such").await.unwrap();
    calls.remove_device("", "bare").await.unwrap();
    calls.register_device(device("1")).await.unwrap();
    edge.twin("temperature", |_| true).await;
    house.end().await;
}

#[tokio::test]
async fn get_device_answers_the_last_report() {
    use dmi::v1beta1::device_mapper_service_client::DeviceMapperServiceClient;
    let house = House::start();
    let known = MapperRegisterResponse { model_list: vec![model()], device_list: vec![device("1")] };
    let mut edge = start_edge(&house.edge_socket(), known);
    edge.twin("temperature", |_| true).await;
    let uri = format!("unix://{}", house.folder.path().join("virtual.sock").display());
    let channel = tonic::transport::Endpoint::try_from(uri).unwrap().connect().await.unwrap();
    let mut client = DeviceMapperServiceClient::new(channel);
    let ask = |name: &str| GetDeviceRequest { device_name: name.into(), device_namespace: "default".into() };
    let device = client.get_device(ask("therm")).await.unwrap().into_inner().device.unwrap();
    assert!(device.status.unwrap().twins.iter().any(|twin| twin.property_name == "temperature"));
    assert_eq!(client.get_device(ask("other")).await.unwrap_err().code(), tonic::Code::NotFound);
    drop(client);
    house.end().await;
}
