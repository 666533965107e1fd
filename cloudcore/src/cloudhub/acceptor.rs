//! Listens for edges and starts a session for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::errors::describe;
use link::{AcceptError, Acceptor, Hello};
use message::NodeName;
use pki::EdgeSubject;
use pki::tls::{ClientCertificate, TlsError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::material::Material;
use super::session::{End, Session};
use super::{Registry, Rooms};

/// Checked configuration of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub keepalive: Duration,
    pub node_limit: usize,
    /// Off: a certificate may speak for any node, as KubeEdge allows by default. For migration only.
    pub enforce: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("listening for edges on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("TLS of the edge port")]
    Tls(#[source] TlsError),
}

/// Handshakes under way at once: each costs memory before its peer is known.
const HANDSHAKES: usize = 256;

/// Time sessions get to say goodbye.
const DRAIN: Duration = Duration::from_secs(3);

pub struct CloudHub {
    settings: Settings,
    listener: TcpListener,
    acceptor: Acceptor,
    registry: Registry,
    rooms: Rooms,
}

impl CloudHub {
    pub async fn build(settings: Settings, material: &Material, rooms: Rooms) -> Result<CloudHub, HubError> {
        let ca = material.authority.certificate();
        let tls = pki::tls::server(&material.server, ca, ClientCertificate::Required, &[])
            .map_err(HubError::Tls)?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|source| HubError::Listen { address: settings.listen, source })?;
        Ok(CloudHub {
            settings,
            listener,
            acceptor: Acceptor::new(tls),
            registry: Registry::default(),
            rooms,
        })
    }

    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Serves edges until stopped, then closes every session.
    pub async fn run(self, stop: CancellationToken) {
        let sessions = TaskTracker::new();
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let hub = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                accepted = accept(&hub.listener, &handshakes) => accepted,
            };
            match accepted {
                Ok((tcp, peer, permit)) => {
                    let (hub, stop) = (hub.clone(), stop.clone());
                    sessions.spawn(async move {
                        let upgraded = hub.upgrade(tcp, peer).await;
                        drop(permit);
                        if let Some((accepted, node)) = upgraded {
                            hub.serve(accepted, node, peer, &stop).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "could not accept a connection");
                    // Out of file descriptors: let some close.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        sessions.close();
        if tokio::time::timeout(DRAIN, sessions.wait()).await.is_err() {
            tracing::warn!("sessions did not end in time and were aborted");
        }
    }

    async fn upgrade(&self, tcp: TcpStream, peer: SocketAddr) -> Option<(link::Accepted, NodeName)> {
        let enforce = self.settings.enforce;
        let mut node = None;
        let check = |certificate: &rustls::pki_types::CertificateDer<'_>, hello: &Hello| {
            node = Some(identify(certificate, hello, enforce)?);
            Ok(())
        };
        match self.acceptor.accept(tcp, check).await {
            Ok(accepted) => node.map(|node| (accepted, node)),
            Err(error) => {
                log_refusal(peer, &error);
                None
            }
        }
    }

    async fn serve(
        &self,
        accepted: link::Accepted,
        node: NodeName,
        peer: SocketAddr,
        stop: &CancellationToken,
    ) {
        let Some(handle) = self.registry.enter(&node, self.settings.node_limit, stop) else {
            tracing::warn!(%node, %peer, limit = self.settings.node_limit, "refused: the limit of connected nodes is reached");
            accepted.sender.close(link::CloseReason::NotAllowed).await;
            return;
        };
        tracing::info!(%node, %peer, epoch = handle.epoch, connected = self.registry.connected(), "node connected");
        let session = Session {
            handle: handle.clone(),
            keepalive: self.settings.keepalive,
            rooms: self.rooms.clone(),
            registry: self.registry.clone(),
            sender: accepted.sender,
            receiver: accepted.receiver,
        };
        let end = session.run().await;
        self.registry.leave(&handle);
        let error = describe(&end);
        match &end {
            End::Receive(receive) if receive.is_peers_fault() => {
                tracing::warn!(%node, %peer, epoch = handle.epoch, error, "node disconnected: it broke the protocol");
            }
            _ => tracing::info!(%node, %peer, epoch = handle.epoch, error, "node disconnected"),
        }
    }
}

async fn accept(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = handshakes.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (tcp, peer) = listener.accept().await?;
    Ok((tcp, peer, permit))
}

/// The node a connection speaks for: the certificate's, which the request must name as well.
fn identify(certificate: &[u8], hello: &Hello, enforce: bool) -> Result<NodeName, String> {
    let named = NodeName::new(&hello.node_id).map_err(|error| format!("header node_id: {error}"))?;
    if !enforce {
        return Ok(named);
    }
    let subject = EdgeSubject::of(certificate).map_err(|error| error.to_string())?;
    if subject.node != named.as_str() {
        return Err(format!("certificate of node {} may not connect as node {named}", subject.node));
    }
    Ok(named)
}

fn log_refusal(peer: SocketAddr, error: &AcceptError) {
    let error = describe(error);
    tracing::warn!(%peer, error, "connection refused");
}
