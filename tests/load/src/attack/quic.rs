//! Enrolled nodes over QUIC whose frames say too much or never end, and datagrams that only look like a beginning.

use std::time::Duration;

use anyhow::Result;
use quinn::crypto::rustls::QuicClientConfig;
use rand::Rng;
use std::sync::Arc;
use tokio::net::UdpSocket;

/// Between two volleys of datagrams.
const VOLLEY: Duration = Duration::from_millis(10);
const DATAGRAMS: usize = 20;
const VOLLEYS: usize = 100;
/// One task in so many makes noise, 2,000 datagrams a second.
const NOISY: usize = 20;
/// Longest wait for a connection to be ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection of the `number`th attacking task.
pub(super) async fn attack(config: &rustls::ClientConfig, target: &str, number: usize) -> Result<()> {
    if number.is_multiple_of(NOISY) {
        return noise(target).await;
    }
    let mut config = config.clone();
    config.alpn_protocols = vec![native::NAME.into()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(Arc::new(config))?));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let connection = endpoint.connect_with(config, target.parse()?, "127.0.0.1")?.await?;
    let (mut send, _receive) = connection.open_bi().await?;
    // Nobody greets: what follows is read as a greeting.
    match number % 3 {
        1 => send.write_all(&[0xff; 8192]).await?,
        2 => {
            send.write_all(&(native::MAX_FRAME_BYTES as u32).to_be_bytes()).await?;
            let part = vec![0; 64 * 1024];
            for _ in 0..112 {
                send.write_all(&part).await?;
            }
        }
        _ => send.write_all(&[0]).await?,
    }
    let _ = tokio::time::timeout(PATIENCE, connection.closed()).await;
    Ok(())
}

/// Datagrams with the head of a first packet of QUIC 1, and noise behind it.
async fn noise(target: &str) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(target).await?;
    let mut datagram = [0; 1200];
    for _ in 0..VOLLEYS {
        for _ in 0..DATAGRAMS {
            rand::rng().fill_bytes(&mut datagram);
            datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            datagram[14] = 0;
            // The other end may be busy; what does not arrive is no loss.
            let _ = socket.send(&datagram).await;
        }
        tokio::time::sleep(VOLLEY).await;
    }
    Ok(())
}
