//! Every local socket and port under a thousand streams of noise and a thousand connections that never finish what they
//! began: it serves on, and ends within ten seconds of the stop.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::health::Health;
use daemon::metrics::Metrics;
use daemon::monitor::Monitor;
use devices::devicetwin::{self, DeviceTwin};
use nodebase::clock::Clock;
use nodebase::host::Recorded;

use edged::{self, Edged};
use harness::noise::Endpoint;
use message::NodeName;
use metamanager::{Cloud, LinkState, Objects, Outbox, Queries};
use mqtt::broker::{Broker, Settings as BrokerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a stop may take.
const STOP: Duration = Duration::from_secs(10);

async fn ends_in_time(name: &str, room: JoinHandle<()>, stop: &CancellationToken) {
    stop.cancel();
    let ended = tokio::time::timeout(STOP, room).await;
    ended.unwrap_or_else(|_| panic!("{name} did not end within {STOP:?}")).unwrap();
}

/// The answer to a plain request, whoever else is there.
async fn get(door: &Endpoint, path: &str) -> String {
    let mut connection = door.connect().await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn the_monitor_port() {
    let monitor =
        Monitor::build("127.0.0.1:0".parse().unwrap(), Health::default(), Metrics::new("x")).await.unwrap();
    let (door, stop) = (Endpoint::Tcp(monitor.address().unwrap()), CancellationToken::new());
    let room = monitor.run(stop.clone());
    let room = tokio::spawn(async move { room.await.unwrap() });
    let open = door.torment().await;
    assert!(get(&door, "/healthz").await.ends_with("ok\n"));
    ends_in_time("the monitor port", room, &stop).await;
    drop(open);
}

#[tokio::test]
async fn the_broker() {
    let mut settings = BrokerSettings::at("127.0.0.1:0".parse().unwrap());
    settings.limits.connects_per_second = 100_000;
    let broker = Broker::bind(settings).await.unwrap();
    let (door, stop) = (Endpoint::Tcp(broker.local_addr()), CancellationToken::new());
    let room = tokio::spawn(broker.run(stop.clone()));
    let open = door.torment().await;
    let mut client = door.connect().await;
    client.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01z").await.unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    ends_in_time("the broker", room, &stop).await;
    drop(open);
}

#[tokio::test]
async fn the_socket_of_mappers() {
    let folder = tempfile::tempdir().unwrap();
    let store = metamanager::database::open(&folder.path().join("edgecore.db")).unwrap();
    let (_changes, changed) = mpsc::channel(1);
    let (_bus, incoming) = mpsc::channel(1);
    let socket = folder.path().join("dmi.sock");
    let settings = devicetwin::Settings {
        node: NodeName::new("edge-1").unwrap(),
        dmi_socket: socket.clone(),
        accept_any_reporter: false,
    };
    let deps = devicetwin::Deps {
        objects: Objects::new(store.clone()),
        outbox: Outbox::new(store.clone()),
        store,
        changes: changed,
        bus: None,
        incoming: devices::eventbus::Messages::new(Some(incoming), None),
        beat: Health::default().beat("devicetwin"),
    };
    let (doors, stop) = (tokio::runtime::Handle::current(), CancellationToken::new());
    let room = DeviceTwin::build(settings, deps, &doors, stop.clone()).await.unwrap().run(stop.clone());
    let room = tokio::spawn(async move { room.await.unwrap() });
    let open = Endpoint::Unix(socket.clone()).torment().await;
    let manager = dmi::Manager::connect(&socket).await.unwrap();
    let mapper = dmi::v1beta1::MapperInfo {
        name: "m".to_owned(),
        protocol: "p".to_owned(),
        address: b"/run/m.sock".to_vec(),
        ..Default::default()
    };
    manager.register(mapper, true).await.unwrap();
    ends_in_time("DeviceTwin", room, &stop).await;
    drop(open);
}

async fn edged(folder: &Path, loopback: SocketAddr) -> (cri::fake::Fake, CancellationToken, JoinHandle<()>) {
    let fake = cri::fake::Fake::start(folder, Arc::new(|| 0)).unwrap();
    let api = nodeapi::Settings {
        socket: folder.join("edged.sock"),
        tls: None,
        loopback: Some(loopback),
        streaming_idle: Duration::from_secs(60),
        forwarded: Default::default(),
    };
    let settings = edged::Settings {
        root_dir: folder.join("kubelet"),
        pod_logs_dir: folder.join("logs"),
        runtime_endpoint: fake.endpoint(),
        server: Some(api),
        ..edged::Settings::with_defaults(NodeName::new("edge-1").unwrap())
    };
    let store = metamanager::database::open(&folder.join("edgecore.db")).unwrap();
    let objects = Objects::new(store.clone());
    let (cloud, _) = Cloud::channel(watch::channel(LinkState::Disconnected).1);
    let (changes, inbox) = mpsc::channel(16);
    let deps = edged::Deps {
        queries: Queries::new(objects.clone(), cloud.clone()),
        outbox: Outbox::new(store),
        objects,
        cloud,
        changes: inbox,
        health: Health::default(),
        metrics: Metrics::new("edgecore"),
        in_step: watch::channel(true).1,
    };
    let host = Arc::new(Recorded { cpus: 1, ..Recorded::default() });
    let room = Edged::build_on(settings, deps, host, Clock::wall()).await.unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let room = tokio::spawn(async move {
        let _open = changes;
        room.run(stopped).await.unwrap();
    });
    (fake, stop, room)
}

#[tokio::test]
async fn the_node_api_and_the_socket_of_device_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let loopback = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_fake, stop, room) = edged(folder.path(), loopback).await;
    let plugins = folder.path().join("kubelet/device-plugins/kubelet.sock");
    let doors =
        [Endpoint::Unix(folder.path().join("edged.sock")), Endpoint::Tcp(loopback), Endpoint::Unix(plugins)];
    let mut open = Vec::new();
    for door in &doors {
        open.push(door.torment().await);
    }
    for door in &doors[..2] {
        assert!(get(door, "/healthz").await.starts_with("HTTP/1.1 200"));
    }
    ends_in_time("edged", room, &stop).await;
    drop(open);
}

#[tokio::test]
async fn the_api_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = apiserver::ApiServer::build(apiserver::Settings {
        data_dir: folder.path().join("data"),
        listen: ([127, 0, 0, 1], 0).into(),
        names: Vec::new(),
        admin_kubeconfig: folder.path().join("admin.kubeconfig"),
        clients: vec![],
        nodes: apiserver::Reach::Nobody,
        controllers: vec!["*".to_owned()],
        limits: apiserver::Limits::default(),
        service_range: apiserver::ServiceRange::default(),
        service_account_signing_key: None,
        audit_log: None,
    })
    .await
    .unwrap();
    let (door, stop) = (Endpoint::Tcp(server.address()), CancellationToken::new());
    let room = server.run(stop.clone());
    let room = tokio::spawn(async move { room.await.unwrap() });
    let open = door.torment().await;
    let authority = pki::files::read_ca(&folder.path().join("data/pki/ca.crt")).unwrap();
    let config = pki::tls::client(&authority, None).unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut client = connector.connect("127.0.0.1".try_into().unwrap(), door.connect().await).await.unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    let _ = client.read_to_end(&mut text).await;
    assert!(text.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&text));
    ends_in_time("the API server", room, &stop).await;
    drop(open);
}
