//! What clients that say nothing cost the server of mappers.
#![allow(clippy::unwrap_used)] // clippy sees functions beside the tests as not tests

use std::path::{Path, PathBuf};
use std::time::Duration;

use dmi::v1beta1::device_manager_service_server::{DeviceManagerService, DeviceManagerServiceServer};
use dmi::v1beta1::{
    MapperInfo, MapperRegisterRequest, MapperRegisterResponse, ReportDeviceStatesRequest,
    ReportDeviceStatesResponse, ReportDeviceStatusRequest, ReportDeviceStatusResponse,
};
use dmi::{Manager, Socket};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Far more than anything here takes, and far less than for ever.
const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {SOON:?}"))
}

#[derive(Clone)]
struct Answers;

#[tonic::async_trait]
impl DeviceManagerService for Answers {
    async fn mapper_register(
        &self,
        _: Request<MapperRegisterRequest>,
    ) -> Result<Response<MapperRegisterResponse>, Status> {
        Ok(Response::new(MapperRegisterResponse::default()))
    }

    async fn report_device_status(
        &self,
        _: Request<ReportDeviceStatusRequest>,
    ) -> Result<Response<ReportDeviceStatusResponse>, Status> {
        std::future::pending().await
    }

    async fn report_device_states(
        &self,
        _: Request<ReportDeviceStatesRequest>,
    ) -> Result<Response<ReportDeviceStatesResponse>, Status> {
        Ok(Response::new(ReportDeviceStatesResponse {}))
    }
}

struct Running {
    path: PathBuf,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn serve() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dmi.sock");
    let socket = Socket::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let service = DeviceManagerServiceServer::new(Answers);
    let serving = tokio::spawn(socket.serve(service, stop.clone()));
    Running { path, stop, serving, _folder: folder }
}

async fn register(path: &Path) -> Manager {
    let manager = Manager::connect(path).await.unwrap();
    let mapper = MapperInfo { name: "m".into(), protocol: "p".into(), ..MapperInfo::default() };
    manager.register(mapper, false).await.unwrap();
    manager
}

#[tokio::test]
async fn a_client_that_leaves_without_a_word_does_not_hold_the_stop() {
    let server = serve().await;
    let silent = UnixStream::connect(&server.path).await.unwrap();
    // A server that greets has done so by then.
    let _ = tokio::time::timeout(Duration::from_millis(200), silent.readable()).await;
    drop(silent);
    soon("a mapper", register(&server.path)).await;
    server.stop.cancel();
    soon("the stop", server.serving).await.unwrap();
}

#[tokio::test]
async fn silent_clients_keep_no_mapper_from_its_answer() {
    let server = serve().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(soon("connecting", UnixStream::connect(&server.path)).await.unwrap());
    }
    soon("a mapper", register(&server.path)).await;
    server.stop.cancel();
    soon("the stop", server.serving).await.unwrap();
}

/// A node takes the registrations of 128 mappers; each may hold a connection for its calls and one more.
#[tokio::test]
async fn as_many_mappers_as_may_register_hold_their_connections() {
    let server = serve().await;
    let mut mappers = Vec::new();
    for _ in 0..2 * 128 {
        mappers.push(soon("a mapper", register(&server.path)).await);
    }
    drop(mappers);
    server.stop.cancel();
    soon("the stop", server.serving).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_never_answered_does_not_hold_the_stop() {
    let server = serve().await;
    let manager = Manager::connect(&server.path).await.unwrap();
    let call = tokio::spawn(async move { manager.report_twins("n", "d", Default::default()).await });
    soon("a mapper", register(&server.path)).await;
    server.stop.cancel();
    soon("the stop", server.serving).await.unwrap();
    assert!(call.await.unwrap().is_err());
}
