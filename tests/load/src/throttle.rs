//! Between an edge and CloudCore: lets what CloudCore sends through at a pace, and what the edge sends at once.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// How the reader behind a throttle reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Open,
    /// One TLS record, then a pause. A small frame is one record.
    Every(Duration),
    /// Nothing.
    Shut,
}

/// Bytes the kernel may keep for a throttle: what is not read must be felt by the writer.
const BUFFER: u32 = 8 * 1024;

/// A listening throttle; it ends with the process.
pub(crate) struct Throttle {
    address: String,
    pace: watch::Sender<Pace>,
}

impl Throttle {
    /// Listens on a free port, open, for connections to `server` (`address:port`).
    pub(crate) async fn start(server: &str) -> Result<Throttle> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (pace, watched) = watch::channel(Pace::Open);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((edge, _)) = listener.accept().await {
                tokio::spawn(relay(edge, server.clone(), watched.clone()));
            }
        });
        Ok(Throttle { address, pace })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn set(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }
}

/// Until one end closes: then the other is closed as well, and learns of it.
async fn relay(edge: TcpStream, server: String, pace: watch::Receiver<Pace>) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    let cloud = socket.connect(server.parse().context("address of the server")?).await?;
    // As on a cable: waiting for acknowledgements is for the ends.
    for side in [&edge, &cloud] {
        let _ = side.set_nodelay(true);
    }
    let (mut from_edge, mut to_edge) = edge.into_split();
    let (mut from_cloud, mut to_cloud) = cloud.into_split();
    tokio::select! {
        up = tokio::io::copy(&mut from_edge, &mut to_cloud) => up.map(|_| ())?,
        down = records(&mut from_cloud, &mut to_edge, pace) => down?,
    }
    Ok(())
}

/// Copies TLS records: five bytes of header, the last two the length of what follows.
async fn records(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut pace: watch::Receiver<Pace>,
) -> Result<()> {
    let mut record = Vec::new();
    loop {
        pace.wait_for(|pace| *pace != Pace::Shut).await?;
        record.resize(5, 0);
        from.read_exact(&mut record).await?;
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        from.read_exact(&mut record[5..]).await?;
        to.write_all(&record).await?;
        let now = *pace.borrow();
        if let Pace::Every(pause) = now {
            let changed = pace.wait_for(|pace| *pace != now);
            let _ = tokio::time::timeout(pause, changed).await;
        }
    }
}
