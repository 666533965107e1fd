use std::io;
use std::time::Duration;

use message::DecodeError;
use tokio_tungstenite::tungstenite::Error as WebSocketError;

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("connecting to {address}")]
    Connect { address: String, source: io::Error },
    #[error("TLS handshake with {address}")]
    Tls { address: String, source: io::Error },
    #[error("{host:?} is not a host name or address")]
    BadHost { host: String },
    #[error("WebSocket upgrade at {address}")]
    Upgrade { address: String, source: Box<WebSocketError> },
    #[error("{address} refused the connection: {status} {text}")]
    Refused { address: String, status: u16, text: String, retry_after: Option<Duration> },
    #[error("{address} did not finish the handshake within {after:?}")]
    TimedOut { address: String, after: Duration },
    #[error("QUIC endpoint")]
    Endpoint(#[source] io::Error),
    #[error("QUIC configuration")]
    Config(#[from] rustls_quic::NoInitialCipherSuite),
    #[error("QUIC connection to {address}")]
    QuicConnect { address: String, source: quinn::ConnectError },
    #[error("QUIC handshake with {address}")]
    Quic { address: String, source: quinn::ConnectionError },
    #[error("greeting {address}")]
    Greeting { address: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// quinn's bridge to rustls.
mod rustls_quic {
    pub(super) use quinn::crypto::rustls::NoInitialCipherSuite;
}

impl DialError {
    /// The status with which the server refused this edge, if it was reached and did.
    pub fn status(&self) -> Option<u16> {
        match self {
            DialError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long the server asked this edge to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            DialError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("TLS handshake")]
    Tls(#[source] io::Error),
    #[error("peer presented no certificate")]
    NoCertificate,
    #[error("WebSocket upgrade")]
    Upgrade(#[source] Box<WebSocketError>),
    #[error("refused: {0}")]
    Refused(String),
    #[error("told to come back after {0:?}")]
    Busy(Duration),
    #[error("peer did not finish the handshake within {0:?}")]
    TimedOut(Duration),
    #[error("QUIC handshake")]
    Quic(#[source] quinn::ConnectionError),
    #[error("peer sent no readable greeting")]
    Greeting,
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("peer did not take a message within {0:?}")]
    Stalled(Duration),
    #[error("writing to the link")]
    Write(#[source] Box<WebSocketError>),
    #[error("writing to the link")]
    Quic(#[source] quinn::WriteError),
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the link closed")]
    Closed,
    #[error("the cloud ended the link: {reason}")]
    Bye { reason: String, retry_after: Duration },
    #[error("frame larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("too many large messages are being received at once")]
    OverBudget,
    #[error("frame is not a message")]
    NotAMessage(#[source] DecodeError),
    #[error("frame is not of the native dialect")]
    NotAFrame(#[source] native::FrameError),
    #[error("reading from the link")]
    Read(#[source] Box<WebSocketError>),
    #[error("reading from the link")]
    Quic(#[source] quinn::ReadError),
}

impl ReceiveError {
    /// True if the peer broke the protocol, false if the connection merely ended.
    pub fn is_peers_fault(&self) -> bool {
        matches!(
            self,
            ReceiveError::TooLarge { .. } | ReceiveError::NotAMessage(_) | ReceiveError::NotAFrame(_)
        )
    }

    /// How long the cloud asked this edge to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ReceiveError::Bye { retry_after, .. } if !retry_after.is_zero() => Some(*retry_after),
            _ => None,
        }
    }
}
