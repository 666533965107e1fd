//! A relay between edge and cloud that fails in the ways links fail.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Both ends get a reset.
    Reset,
    /// The edge's side is closed; the cloud's stays open and silent.
    HalfOpen,
}

struct State {
    target: SocketAddr,
    /// The cut that ends the connections made before it.
    cut: watch::Sender<Option<Cut>>,
}

#[derive(Clone)]
pub(super) struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    /// Listens on `at`.
    pub(super) async fn start(at: IpAddr, target: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let (cut, _) = watch::channel(None);
        let state = Arc::new(State { target, cut });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(shared.clone().relay(near));
            }
        });
        Ok(Relay { address, state })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the link fail.
    pub(super) fn cut(&self, cut: Cut) {
        self.state.cut.send_replace(Some(cut));
    }
}

impl State {
    async fn relay(self: Arc<Self>, mut near: TcpStream) {
        let mut cut = self.cut.subscribe();
        cut.mark_unchanged();
        let Ok(mut far) = TcpStream::connect(self.target).await else { return };
        // As on a cable: waiting for acknowledgements is for the ends.
        for side in [&near, &far] {
            let _ = side.set_nodelay(true);
        }
        let how = tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = cut.changed() => *cut.borrow(),
        };
        match how {
            Some(Cut::Reset) | None => {
                // Closing with time 0 sends a reset.
                let _ = sockopt::set_socket_linger(&near, Some(Duration::ZERO));
                let _ = sockopt::set_socket_linger(&far, Some(Duration::ZERO));
            }
            Some(Cut::HalfOpen) => {
                let _ = near.shutdown().await;
                drop(near);
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        }
    }
}
