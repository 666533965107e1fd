//! Every local socket and port under a thousand streams of noise and a thousand connections that never finish what they
//! began: it serves on, and ends within ten seconds of the stop.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::health::Health;
use daemon::metrics::Metrics;
use daemon::monitor::Monitor;
use edgecore::devicetwin::{self, DeviceTwin};
use edgecore::edged::context::Clock;
use edgecore::edged::server;
use edgecore::edged::{self, Edged};
use edgecore::host::Recorded;
use edgecore::metamanager::{Cloud, LinkState, Objects, Outbox, Queries};
use message::NodeName;
use mqtt::broker::{Broker, Settings as BrokerSettings};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

const STREAMS: u64 = 1000;
const HALF_OPEN: u64 = 1000;
/// Of both, under way at once.
const AT_ONCE: usize = 64;
const SEED: u64 = 14;
/// What a stop may take.
const STOP: Duration = Duration::from_secs(10);
/// What one connection may take before its client gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What clients of the protocols say first, so that noise gets further than the first byte.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"GET /healthz HTTP/1.1\r\n",
    b"POST /exec/default/p/c?command=x HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n",
    b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
];

#[derive(Clone)]
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Door {
    async fn connect(&self) -> Box<dyn Connection> {
        loop {
            let connected: std::io::Result<Box<dyn Connection>> = match self {
                Door::Tcp(address) => TcpStream::connect(address).await.map(|tcp| Box::new(tcp) as _),
                Door::Unix(path) => UnixStream::connect(path).await.map(|unix| Box::new(unix) as _),
            };
            match connected {
                Ok(connection) => return connection,
                // The kernel's queue is full.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

fn noise(number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(SEED.wrapping_add(number));
    let mut bytes = BEGINNINGS[random.random_range(0..BEGINNINGS.len())].to_vec();
    let mut rest = vec![0; random.random_range(0..4096)];
    random.fill(rest.as_mut_slice());
    bytes.extend(rest);
    bytes
}

/// Noise, then the end; the answer is read and forgotten.
async fn stream(door: Door, number: u64) -> Option<Box<dyn Connection>> {
    let mut connection = door.connect().await;
    let talk = async {
        connection.write_all(&noise(number)).await?;
        connection.shutdown().await?;
        connection.read_to_end(&mut Vec::new()).await
    };
    let _ = tokio::time::timeout(PATIENCE, talk).await;
    None
}

/// A beginning, or nothing, and then silence for as long as the test lasts.
async fn half_open(door: Door, number: u64) -> Option<Box<dyn Connection>> {
    let mut connection = door.connect().await;
    let beginning = BEGINNINGS[usize::try_from(number).unwrap() % BEGINNINGS.len()];
    let _ = tokio::time::timeout(PATIENCE, connection.write_all(beginning)).await;
    Some(connection)
}

/// All of them, a few at a time; answers the connections that stay open.
async fn torment(door: &Door) -> Vec<Box<dyn Connection>> {
    let (mut clients, mut open) = (JoinSet::new(), Vec::new());
    for number in 0..STREAMS.max(HALF_OPEN) {
        if number < STREAMS {
            clients.spawn(stream(door.clone(), number));
        }
        if number < HALF_OPEN {
            clients.spawn(half_open(door.clone(), number));
        }
        while clients.len() >= AT_ONCE {
            open.extend(clients.join_next().await.and_then(Result::unwrap));
        }
    }
    while let Some(done) = clients.join_next().await {
        open.extend(done.unwrap());
    }
    open
}

async fn ends_in_time(name: &str, room: JoinHandle<()>, stop: &CancellationToken) {
    stop.cancel();
    let ended = tokio::time::timeout(STOP, room).await;
    ended.unwrap_or_else(|_| panic!("{name} did not end within {STOP:?}")).unwrap();
}

/// The answer to a plain request, whoever else is there.
async fn get(door: &Door, path: &str) -> String {
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
    let (door, stop) = (Door::Tcp(monitor.address().unwrap()), CancellationToken::new());
    let room = monitor.run(stop.clone());
    let room = tokio::spawn(async move { room.await.unwrap() });
    let open = torment(&door).await;
    assert!(get(&door, "/healthz").await.ends_with("ok\n"));
    ends_in_time("the monitor port", room, &stop).await;
    drop(open);
}

#[tokio::test]
async fn the_broker() {
    let mut settings = BrokerSettings::at("127.0.0.1:0".parse().unwrap());
    settings.limits.connects_per_second = 100_000;
    let broker = Broker::bind(settings).await.unwrap();
    let (door, stop) = (Door::Tcp(broker.local_addr()), CancellationToken::new());
    let room = tokio::spawn(broker.run(stop.clone()));
    let open = torment(&door).await;
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
    let store = edgecore::database::open(&folder.path().join("edgecore.db")).unwrap();
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
        incoming,
        beat: Health::default().beat("devicetwin"),
    };
    let (doors, stop) = (tokio::runtime::Handle::current(), CancellationToken::new());
    let room = DeviceTwin::build(settings, deps, &doors, stop.clone()).await.unwrap().run(stop.clone());
    let room = tokio::spawn(async move { room.await.unwrap() });
    let open = torment(&Door::Unix(socket.clone())).await;
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
    let api = server::Settings {
        socket: folder.join("edged.sock"),
        tls: None,
        loopback: Some(loopback),
        streaming_idle: Duration::from_secs(60),
    };
    let settings = edged::Settings {
        root_dir: folder.join("kubelet"),
        pod_logs_dir: folder.join("logs"),
        runtime_endpoint: fake.endpoint(),
        server: Some(api),
        ..edged::Settings::with_defaults(NodeName::new("edge-1").unwrap())
    };
    let store = edgecore::database::open(&folder.join("edgecore.db")).unwrap();
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
    let doors = [Door::Unix(folder.path().join("edged.sock")), Door::Tcp(loopback), Door::Unix(plugins)];
    let mut open = Vec::new();
    for door in &doors {
        open.push(torment(door).await);
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
    })
    .await
    .unwrap();
    let (door, stop) = (Door::Tcp(server.address()), CancellationToken::new());
    let room = server.run(stop.clone());
    let room = tokio::spawn(async move { room.await.unwrap() });
    let open = torment(&door).await;
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
