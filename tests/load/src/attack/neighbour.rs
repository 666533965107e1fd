//! No attack: as many bytes and connections over loopback as an attacker's, to itself. What this costs an update is the
//! machine's doing, not the programs'.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::orders::Counts;
use super::raw::repeat;

/// Chunks of 64 KiB per connection.
const CHUNKS: usize = 200;

/// Takes connections and what comes over them.
pub(super) async fn listen() -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while matches!(tcp.read(&mut buffer).await, Ok(read) if read > 0) {}
            });
        }
    });
    Ok(address)
}

/// Talks to itself for ever.
pub(super) async fn talk(address: std::net::SocketAddr, counts: &Counts) {
    let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    loop {
        add(&counts.opened);
        if let Ok(mut tcp) = TcpStream::connect(address).await {
            let _ = repeat(&mut tcp, &[b'x'; 64 * 1024], CHUNKS).await;
        }
        add(&counts.ended);
        tokio::time::sleep(super::orders::AGAIN).await;
    }
}
