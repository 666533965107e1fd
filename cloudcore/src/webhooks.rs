//! Admission webhooks: what API servers ask before they store pods and endpoints.
//!
//! ```text
//! API server --TLS--> server: an AdmissionReview --> pods, endpoints, offline: pure decisions --> the answer
//!                         ^ certificate of CloudCore's CA      | autonomy, edgelink; pods of the API
//! leader --configurations, with the CAs of today--> API server
//! ```
//!
//! Promises: nothing waits for this room for longer than a moment, and where it is not reached nothing is held up
//! (`failurePolicy: Ignore`). API servers show no certificate, so whoever reaches the port may ask: connections, bytes and time
//! are limited, and an answer says no more than whether a node has a policy and whether its link is lost.

mod configurations;
mod endpoints;
mod identity;
mod offline;
mod pods;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use apimachinery::webhooks::{Answer, Url, Verdict};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::autonomy::Autonomy;
use crate::cloudhub::material::Trust;
use crate::edgelink::EdgeLinks;
use crate::kubernetes::{Cluster, WorkEnded};
pub use identity::IdentityError;
use identity::Shown;
pub use offline::Offline;

/// Checked configuration (`modules.webhooks`).
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub reached: Reached,
    /// Of namespaces that do not say it themselves.
    pub offline: Offline,
}

/// Where API servers find this room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// At the Service `cloudcore-webhooks`, whose port is the one listened on.
    Service,
    Url(Url),
}

#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    #[error("listening for admission webhooks on {address} (modules.webhooks.port)")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("TLS of the admission webhooks")]
    Identity(#[source] IdentityError),
}

/// Bound, and not listening: API servers are refused until there is something to judge by, which costs them less than waiting.
pub struct Webhooks {
    address: SocketAddr,
    socket: TcpSocket,
    shown: Shown,
}

/// Connections the kernel accepts ahead.
const BACKLOG: u32 = 128;

/// What decisions are made from.
struct Judge {
    autonomy: Autonomy,
    links: EdgeLinks,
    cluster: Cluster,
    /// Questions that are worked on at once.
    turns: Semaphore,
}

impl Webhooks {
    pub fn build(settings: &Settings, trust: watch::Receiver<Arc<Trust>>) -> Result<Webhooks, WebhooksError> {
        let shown = Shown::build(&settings.reached, trust).map_err(WebhooksError::Identity)?;
        let address = settings.listen;
        let socket = bind(address).map_err(|source| WebhooksError::Listen { address, source })?;
        Ok(Webhooks { address, socket, shown })
    }

    /// Listens, and serves until `stop`. What `autonomy` and `links` have not seen yet does not count.
    pub async fn run(
        self,
        autonomy: Autonomy,
        links: EdgeLinks,
        cluster: Cluster,
        stop: CancellationToken,
    ) -> Result<(), WebhooksError> {
        let address = self.address;
        let listener = self.socket.listen(BACKLOG);
        let listener = listener.map_err(|source| WebhooksError::Listen { address, source })?;
        let judge = Judge { autonomy, links, cluster, turns: Semaphore::new(server::AT_ONCE) };
        server::run(listener, self.shown, judge, stop).await;
        Ok(())
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Keeps the configurations of these webhooks in the cluster while this replica leads, until stopped.
pub async fn keep_configurations(
    settings: Settings,
    cluster: Cluster,
    trust: watch::Receiver<Arc<Trust>>,
    stop: CancellationToken,
) -> Result<(), WorkEnded> {
    configurations::keep(settings, cluster, trust, stop).await
}

/// Paths of the webhooks.
mod paths {
    pub(super) const PODS: &str = "/mutate/pods";
    pub(super) const ENDPOINTS: &str = "/mutate/endpoints";
    pub(super) const WARN: &str = "/validate/offline/warn";
    pub(super) const DENY: &str = "/validate/offline/deny";
}

impl Judge {
    /// The answer to a request; `None`: there is no webhook at this path.
    async fn answer(&self, path: &str, request: &Value) -> Option<Answer> {
        let is_lost = |node: &str| self.links.is_lost(node);
        Some(match path {
            paths::PODS => patched(pods::patch(&self.autonomy, request)),
            paths::ENDPOINTS => {
                let lost = endpoints::lost(request, |node| self.autonomy.is_lost(node));
                let ready = endpoints::ready_pods(&self.cluster, lost).await;
                patched(endpoints::patch(request, &ready))
            }
            paths::WARN => offline::answer(request, Offline::Warn, is_lost),
            paths::DENY => offline::answer(request, Offline::Deny, is_lost),
            _ => return None,
        })
    }
}

fn patched(patch: Option<Value>) -> Answer {
    let verdict = patch.map_or(Verdict::Allowed, Verdict::Patched);
    Answer { verdict, ..Answer::allowed() }
}
