//! A thousand streams of noise and a thousand connections that never finish what they began, for any port or socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

const STREAMS: u64 = 1000;
const HALF_OPEN: u64 = 1000;
/// Of both, under way at once.
const AT_ONCE: usize = 64;
const SEED: u64 = 14;
/// What one connection may take before its client gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may have no place for a connection.
const PLACE: Duration = Duration::from_secs(30);
/// Longest noise, in bytes; of a datagram, what QUIC's first packets have at least.
const LONGEST: usize = 4096;
const DATAGRAM: usize = 1200;

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

/// The first bytes of a QUIC packet with a long header, version 1 (RFC 9000 section 17.2).
const LONG_HEADER: &[u8] = &[0xc3, 0, 0, 0, 1, 8];

/// Where a program is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connections that stay open until dropped.
#[derive(Default)]
pub struct Open {
    _connections: Vec<Box<dyn Connection>>,
    _sockets: Vec<UdpSocket>,
}

impl Endpoint {
    /// Tries until the kernel has a place for it. Not for [`Endpoint::Udp`].
    ///
    /// # Panics
    /// If it has none for `PLACE`.
    pub async fn connect(&self) -> Box<dyn Connection> {
        let due = Instant::now() + PLACE;
        loop {
            let connected: std::io::Result<Box<dyn Connection>> = match self {
                Endpoint::Tcp(address) => TcpStream::connect(address).await.map(|tcp| Box::new(tcp) as _),
                Endpoint::Unix(path) => UnixStream::connect(path).await.map(|unix| Box::new(unix) as _),
                Endpoint::Udp(address) => panic!("{address} has no connections"),
            };
            match connected {
                Ok(connection) => return connection,
                // The kernel's queue is full.
                Err(error) if Instant::now() > due => panic!("connecting to {self:?}: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// All of the noise, a few streams at a time; what is half open stays so until the answer is dropped.
    pub async fn torment(&self) -> Open {
        match self {
            Endpoint::Udp(address) => datagrams(*address).await,
            _ => streams(self).await,
        }
    }
}

fn noise(number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(SEED.wrapping_add(number));
    let mut bytes = BEGINNINGS[random.random_range(0..BEGINNINGS.len())].to_vec();
    let mut rest = vec![0; random.random_range(0..LONGEST)];
    random.fill(rest.as_mut_slice());
    bytes.extend(rest);
    bytes
}

/// Noise, then the end; the answer is read and forgotten.
async fn stream(endpoint: Endpoint, number: u64) -> Option<Box<dyn Connection>> {
    let mut connection = endpoint.connect().await;
    let talk = async {
        connection.write_all(&noise(number)).await?;
        connection.shutdown().await?;
        connection.read_to_end(&mut Vec::new()).await
    };
    let _ = tokio::time::timeout(PATIENCE, talk).await;
    None
}

/// A beginning, or nothing, and then silence for as long as the test lasts.
async fn half_open(endpoint: Endpoint, number: u64) -> Option<Box<dyn Connection>> {
    let mut connection = endpoint.connect().await;
    let beginning = BEGINNINGS[usize::try_from(number).unwrap_or(0) % BEGINNINGS.len()];
    let _ = tokio::time::timeout(PATIENCE, connection.write_all(beginning)).await;
    Some(connection)
}

async fn streams(endpoint: &Endpoint) -> Open {
    let (mut clients, mut open) = (JoinSet::new(), Open::default());
    let mut end = |done: Option<Result<Option<Box<dyn Connection>>, tokio::task::JoinError>>| {
        open._connections.extend(done.and_then(Result::ok).flatten());
    };
    for number in 0..STREAMS.max(HALF_OPEN) {
        if number < STREAMS {
            clients.spawn(stream(endpoint.clone(), number));
        }
        if number < HALF_OPEN {
            clients.spawn(half_open(endpoint.clone(), number));
        }
        while clients.len() >= AT_ONCE {
            end(clients.join_next().await);
        }
    }
    while !clients.is_empty() {
        end(clients.join_next().await);
    }
    open
}

/// Noise and first packets that do not go on, each from an address of its own.
async fn datagrams(address: SocketAddr) -> Open {
    let local = SocketAddr::new(if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let mut open = Open::default();
    for number in 0..STREAMS + HALF_OPEN {
        let mut bytes = noise(number);
        if number >= STREAMS {
            bytes.splice(0..0, LONG_HEADER.iter().copied());
            bytes.resize(DATAGRAM, 0);
        }
        bytes.truncate(DATAGRAM);
        let Ok(socket) = UdpSocket::bind(local).await else { continue };
        let _ = socket.send_to(&bytes, address).await;
        open._sockets.push(socket);
    }
    open
}
