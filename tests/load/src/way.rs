//! The way from one CloudCore to the API server, which can be refused or swallowed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections are closed, new ones at once.
    Refused,
    /// Connections stay and carry nothing, new ones as well.
    Swallowed,
}

pub(crate) struct Relay {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Relay {
    /// A relay to the server of a kubeconfig, and a copy of that in `folder` that leads through it.
    pub(crate) async fn before(kubeconfig: &Path, folder: &Path) -> Result<(Relay, PathBuf)> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let server = text.lines().find_map(|line| line.trim().strip_prefix("server:"));
        let server = server.context("no server in the kubeconfig")?.trim().trim_matches(['"', '\'']);
        let address = server.strip_prefix("https://").context("the server is no https URL")?;
        let relay = Relay::start(address.parse()?).await?;
        let relayed = folder.join("relayed.kubeconfig");
        std::fs::write(&relayed, text.replace(address, &relay.address.to_string()))?;
        Ok((relay, relayed))
    }

    async fn start(target: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (way, seen) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // A connection that fails is what this relay is for.
                let seen = seen.clone();
                tokio::spawn(async move { relay(near, target, seen).await.ok() });
            }
        });
        Ok(Relay { address, way })
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn relay(near: TcpStream, target: SocketAddr, mut way: watch::Receiver<Way>) -> Result<()> {
    if *way.wait_for(|way| *way != Way::Swallowed).await? == Way::Refused {
        return Ok(());
    }
    let far = TcpStream::connect(target).await?;
    for side in [&near, &far] {
        side.set_nodelay(true)?;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    // Either end closes both: the halves of the other direction are dropped with it.
    tokio::select! {
        ended = pump(near_read, far_write, way.clone()) => ended,
        ended = pump(far_read, near_write, way) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) -> Result<()> {
    let mut refused = way.clone();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count?,
            _ = refused.wait_for(|way| *way == Way::Refused) => return Ok(()),
        };
        if count == 0 || *way.wait_for(|way| *way != Way::Swallowed).await? == Way::Refused {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
