//! The cloud's side of a new connection.

use std::sync::Arc;

use http::StatusCode;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::connection::{Stream, limits, split};
use crate::{AcceptError, HANDSHAKE_TIMEOUT, Receiver, Sender, USE_MESSAGES};

/// What an edge says of itself in its upgrade request. Nothing here is trusted before it is compared with the
/// certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub node_id: String,
    pub project_id: String,
}

/// An upgraded connection.
pub struct Accepted {
    pub hello: Hello,
    pub sender: Sender,
    pub receiver: Receiver,
}

/// Turns TCP streams into connections.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
}

impl Acceptor {
    /// `config` must require client certificates.
    pub fn new(config: Arc<rustls::ServerConfig>) -> Acceptor {
        Acceptor { tls: TlsAcceptor::from(config) }
    }

    /// TLS, then the upgrade. `check` sees the peer's certificate and its hello; its refusal text goes to the peer as a
    /// 403 answer. Any path is accepted, as the Go server does.
    pub async fn accept<F>(&self, tcp: TcpStream, check: F) -> Result<Accepted, AcceptError>
    where
        F: FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), String> + Send + Unpin,
    {
        let work = self.handshake(tcp, check);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, work)
            .await
            .map_err(|_| AcceptError::TimedOut(HANDSHAKE_TIMEOUT))?
    }

    #[allow(clippy::result_large_err)] // The WebSocket library dictates the type of the callback.
    async fn handshake<F>(&self, tcp: TcpStream, check: F) -> Result<Accepted, AcceptError>
    where
        F: FnOnce(&CertificateDer<'_>, &Hello) -> Result<(), String> + Send + Unpin,
    {
        // Small frames must not wait for each other; an error only means that they do.
        let _ = tcp.set_nodelay(true);
        let tls = self.tls.accept(tcp).await.map_err(AcceptError::Tls)?;
        let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.ok_or(AcceptError::NoCertificate)?.clone().into_owned();
        let mut hello = Hello::default();
        let mut refusal = None;
        let callback = |request: &Request, response: Response| {
            let read = read_hello(request).and_then(|read| check(&certificate, &read).map(|()| read));
            match read {
                Ok(read) => {
                    hello = read;
                    Ok(response)
                }
                Err(text) => {
                    refusal = Some(text.clone());
                    Err(forbidden(text))
                }
            }
        };
        let upgraded = tokio_tungstenite::accept_hdr_async_with_config(
            Box::new(tls) as Stream,
            callback,
            Some(limits()),
        )
        .await;
        match (upgraded, refusal) {
            (Ok(socket), None) => {
                let (sender, receiver) = split(socket);
                Ok(Accepted { hello, sender, receiver })
            }
            (_, Some(text)) => Err(AcceptError::Refused(text)),
            (Err(error), None) => Err(AcceptError::Upgrade(Box::new(error))),
        }
    }
}

fn read_hello(request: &Request) -> Result<Hello, String> {
    // Go clients repeat headers on retries; `get` takes the first.
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let connection_use = header("connectionuse");
    if connection_use != USE_MESSAGES {
        return Err(format!("header Connectionuse must be {USE_MESSAGES:?}, not {connection_use:?}"));
    }
    Ok(Hello { node_id: header("node_id").to_owned(), project_id: header("project_id").to_owned() })
}

fn forbidden(text: String) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
