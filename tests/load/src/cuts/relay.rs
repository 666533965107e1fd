//! A relay between edge and cloud that fails in the ways links fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both ends get a reset.
    Reset,
    /// The edge's side is closed; the cloud's stays open and silent.
    HalfOpen,
    /// Everything is swallowed both ways, and nobody is told.
    Swallow,
}

impl Cut {
    pub const ALL: [Cut; 3] = [Cut::Reset, Cut::HalfOpen, Cut::Swallow];
}

/// How long connections made during a swallowing cut are swallowed as well.
const SWALLOW: Duration = Duration::from_millis(1500);

struct State {
    target: SocketAddr,
    /// The cut that ends the connections made before it.
    cut: watch::Sender<(u64, Option<Cut>)>,
    swallowing: AtomicBool,
    cuts: AtomicU64,
}

#[derive(Clone)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    pub async fn start(target: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (cut, _) = watch::channel((0, None));
        let state =
            Arc::new(State { target, cut, swallowing: AtomicBool::new(false), cuts: AtomicU64::new(0) });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(shared.clone().relay(near));
            }
        });
        Ok(Relay { address, state })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the link fail.
    pub async fn cut(&self, cut: Cut) {
        let number = self.state.cuts.fetch_add(1, Ordering::SeqCst) + 1;
        self.state.swallowing.store(cut == Cut::Swallow, Ordering::SeqCst);
        self.state.cut.send_replace((number, Some(cut)));
        if cut == Cut::Swallow {
            tokio::time::sleep(SWALLOW).await;
            self.state.swallowing.store(false, Ordering::SeqCst);
        }
    }

    pub fn heal(&self) {
        self.state.swallowing.store(false, Ordering::SeqCst);
    }
}

impl State {
    async fn relay(self: Arc<Self>, mut near: TcpStream) {
        let mut cut = self.cut.subscribe();
        cut.mark_unchanged();
        if self.swallowing.load(Ordering::SeqCst) {
            // Accepted by nobody in particular: no byte comes back.
            tokio::time::sleep(Duration::from_secs(30)).await;
            return;
        }
        let Ok(mut far) = TcpStream::connect(self.target).await else { return };
        let how = tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = cut.changed() => cut.borrow().1,
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
            Some(Cut::Swallow) => {
                // Reads and forgets, so that neither end sees a full window first.
                let (mut a, mut b) = ([0; 4096], [0; 4096]);
                loop {
                    tokio::select! {
                        read = near.read(&mut a) => if !matches!(read, Ok(1..)) { break },
                        read = far.read(&mut b) => if !matches!(read, Ok(1..)) { break },
                    }
                }
            }
        }
    }
}
