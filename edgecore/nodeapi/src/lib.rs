//! The Node API: what the kubelet serves over HTTP. Pods, logs, exec, attach, port-forward, health, usage.
//!
//! ```text
//! unix socket (0600) --\
//! TLS, certificates  ---+--> listen --> router --> podlist | logs | streams --> runtime's streaming server
//! loopback, if asked --/                           stats (read when asked; nothing polls) --> summary | metrics
//!                                                  tcp, backends --> ports of pods, and of the node by policy
//! ```
//!
//! Owns the socket file and the last CPU readings. Promises: nobody is served over the network without a certificate
//! of the configured CA and a name that is allowed; connections, sessions, heads and waits are bounded; an idle server
//! does nothing. Source: docs/protocol/edge-runtime.md 6.5 to 6.7 and 7.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod answer;
mod backends;
pub mod health;
mod listen;
mod logs;
mod metrics;
mod podlist;
mod proxy;
mod query;
mod router;
mod run;
mod serving;
mod stats;
mod streams;
mod target;
mod tcp;
mod tls;

use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::health::Health;
use daemon::metrics::Metrics;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use metamanager::Cloud;
use nodebase::addresses::Addresses;
use nodebase::base::Base;
use nodebase::host::Host;
pub use nodebase::settings::node_api::{Allowed, ForwardedPorts, Settings, Source, TlsPort};
pub use tls::TlsFilesError;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("binding the Node API's socket {path}")]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("binding the Node API's port {address}")]
    Port { address: SocketAddr, source: std::io::Error },
    #[error("preparing TLS for the Node API's port {address}")]
    Tls { address: SocketAddr, source: TlsFilesError },
}

/// Sessions that stream (exec, attach, port-forward, followed logs) at once: more than people need, less than hurts.
const SESSIONS: usize = 64;

/// What requests are answered from.
struct ServerState {
    pub base: Arc<Base>,
    /// Of all rooms of the program, and what it counts.
    pub health: Health,
    pub metrics: Metrics,
    pub host: Arc<dyn Host>,
    pub sessions: Arc<Semaphore>,
    pub rates: stats::Rates,
    /// When EdgeCore started.
    pub started: Timestamp,
    pub streaming_idle: Duration,
    /// Ports of the node that are reached.
    pub forwarded: ForwardedPorts,
    /// Ends the sessions that outlive their connection's task.
    pub stop: CancellationToken,
}

/// What the server tells of.
pub struct Deps {
    pub base: Arc<Base>,
    /// Whom the node asks for a certificate, and for which addresses.
    pub cloud: Cloud,
    pub addresses: Arc<Addresses>,
    pub health: Health,
    pub metrics: Metrics,
    pub host: Arc<dyn Host>,
}

/// The server: bound, not serving.
pub struct Server {
    doors: Vec<listen::Door>,
    /// The certificate of the TLS port, where the node asks for it.
    asked: Option<serving::Certificate>,
    streaming_idle: Duration,
    forwarded: ForwardedPorts,
}

impl Server {
    /// Binds the socket and the ports that are asked for.
    pub async fn build(settings: &Settings) -> Result<Server, BuildError> {
        let socket = |source| BuildError::Socket { path: settings.socket.clone(), source };
        let listener = listener::private(&settings.socket).map_err(socket)?;
        let mut doors = vec![listen::Door::Unix { listener }];
        let mut asked = None;
        match &settings.tls {
            Some(port) if port.source == Source::Asked => {
                let (certificate, shown) = serving::Certificate::of(port);
                doors.push(listen::awaiting(port, shown).await?);
                asked = Some(certificate);
            }
            Some(port) => doors.push(listen::authenticated(port).await?),
            None => {}
        }
        if let Some(address) = settings.loopback {
            doors.push(listen::loopback(address).await?);
        }
        let forwarded = settings.forwarded.clone();
        if !forwarded.is_empty() {
            tracing::warn!(ports = %forwarded, "ports of this node are open to whoever may use its Node API");
        }
        Ok(Server { doors, asked, streaming_idle: settings.streaming_idle, forwarded })
    }

    /// Serves until `stop`.
    pub fn run(self, deps: Deps, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Deps { base, cloud, addresses, health, metrics, host } = deps;
            let (node, clock) = (base.settings.node.clone(), base.clock.clone());
            let until = stop.clone();
            let kept = self.asked.map(|certificate| {
                let deps = serving::Deps { node, clock, cloud, addresses };
                certificate.keep(deps, until)
            });
            let site = Arc::new(ServerState {
                started: base.clock.now(),
                base,
                health,
                metrics,
                host,
                sessions: Arc::new(Semaphore::new(SESSIONS)),
                rates: stats::Rates::default(),
                streaming_idle: self.streaming_idle,
                forwarded: self.forwarded,
                stop: stop.clone(),
            });
            let doors = self.doors.into_iter().map(|door| door.serve(site.clone(), stop.clone()));
            let kept = async {
                if let Some(kept) = kept {
                    kept.await;
                }
            };
            tokio::join!(futures_util::future::join_all(doors), kept);
        })
    }
}
