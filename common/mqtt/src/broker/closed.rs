//! Whose connection it is, and why it ended.

use std::sync::Arc;

use rumqttc::ConnectReturnCode;
use tokio::sync::Notify;

use super::access::User;
use super::packets::ReadError;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("client said goodbye")]
    Goodbye,
    #[error("connection ended")]
    Ended,
    #[error("another connection took the session, or the client did not read what was sent")]
    TakenOver,
    #[error("broker stops")]
    Stopped,
    #[error("client was silent for too long")]
    Silent,
    #[error("client does not take what is sent")]
    Stalled,
    #[error("a message was not stored; the client sends it again")]
    NotStored,
    #[error("connection refused: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("client broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Unreadable(#[from] ReadError),
}

impl Closed {
    pub(super) fn is_fault(&self) -> bool {
        // Of a limit the log was told by its key.
        let limited = matches!(self, Closed::Refused(ConnectReturnCode::ServiceUnavailable));
        !limited
            && matches!(
                self,
                Closed::Silent
                    | Closed::Stalled
                    | Closed::NotStored
                    | Closed::Refused(_)
                    | Closed::Protocol(_)
                    | Closed::Unreadable(_)
            )
    }
}

/// Which session a connection serves.
pub(super) struct Identity {
    pub client: String,
    /// `None` where nobody logs in.
    pub user: Option<User>,
    pub link: u64,
    pub wake: Arc<Notify>,
}
