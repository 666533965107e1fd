//! A cloud as KubeEdge's own behaves, scripted: registration over HTTPS, the message port over TLS and WebSocket, answers
//! and acknowledgements as its hub and EdgeController give them (docs/protocol/transport.md 1 to 4). None of our link, codec or
//! message code is in it; it is driven by the test that holds it.

mod authority;
mod checks;
mod controller;
mod dynamic;
mod lab;
mod pool;
mod registration;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use harness::edge::Doors;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use authority::Authority;
pub use checks::fits_the_catalogue;
pub use controller::{Controller, plain_error, status};
pub use dynamic::Dynamic;
pub use harness::wait::PATIENCE;
pub use lab::{Lab, NODE, is, runtime};
pub use registration::Asked;
pub use session::{Session, Upgrade};

/// The listening cloud. One connection is taken at a time, when the test asks for it.
pub struct GoCloud {
    listener: TcpListener,
    tls: TlsAcceptor,
    doors: Doors,
    asked: Arc<Mutex<Vec<Asked>>>,
    authority: Arc<Authority>,
}

impl GoCloud {
    /// Listens on free ports of the loopback address; registration answers from now on.
    pub async fn start() -> Result<GoCloud> {
        pki::install_provider();
        let authority = Arc::new(Authority::generate()?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let registration = TcpListener::bind("127.0.0.1:0").await?;
        let doors = Doors {
            link: listener.local_addr()?,
            cert_port: registration.local_addr()?.port(),
            quic_port: 1,
            token: authority.token(),
        };
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        tokio::spawn(registration::serve(registration, authority.clone(), asked.clone()));
        let tls = TlsAcceptor::from(authority.message_port()?);
        Ok(GoCloud { listener, tls, doors, asked, authority })
    }

    /// Where an edge joins.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// The bearer the edge must show: the token without the hash of the CA.
    pub fn bearer(&self) -> &str {
        self.authority.bearer()
    }

    /// Every request of the registration port so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next connection of the edge, upgraded. Nothing is negotiated, whatever it offers.
    pub async fn accept(&self) -> Result<Session> {
        let accepted = async {
            let (tcp, _) = self.listener.accept().await?;
            let tls = self.tls.accept(tcp).await.context("TLS of the message port")?;
            Session::upgrade(tls).await
        };
        tokio::time::timeout(PATIENCE, accepted).await.context("the edge does not connect")?
    }

    /// The next connection that speaks KubeEdge's dialect: an edge that offers another one first comes back without.
    pub async fn accept_kubeedge(&self) -> Result<Session> {
        loop {
            let session = self.accept().await?;
            if session.upgrade.offered.is_none() {
                return Ok(session);
            }
            session.cut();
        }
    }
}
