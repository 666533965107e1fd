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
    #[error("{address} did not finish the handshake within {after:?}")]
    TimedOut { address: String, after: Duration },
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
    #[error("peer did not finish the handshake within {0:?}")]
    TimedOut(Duration),
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("peer did not take a message within {0:?}")]
    Stalled(Duration),
    #[error("writing to the link")]
    Write(#[source] Box<WebSocketError>),
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the link closed")]
    Closed,
    #[error("frame larger than {limit} bytes", limit = message::MAX_MESSAGE_BYTES)]
    TooLarge,
    #[error("frame is not a message")]
    NotAMessage(#[source] DecodeError),
    #[error("reading from the link")]
    Read(#[source] Box<WebSocketError>),
}

impl ReceiveError {
    /// True if the peer broke the protocol, false if the connection merely ended.
    pub fn is_peers_fault(&self) -> bool {
        matches!(self, ReceiveError::TooLarge | ReceiveError::NotAMessage(_))
    }
}
