//! Why a tunnel's WebSocket is over, and the limits that end it.

use std::io;
use std::time::Duration;

use crate::FrameError;

/// Time a message may take to be written before the peer counts as stalled.
pub(crate) const WRITE: Duration = Duration::from_secs(15);
/// Answers that wait behind them: a peer that asks for more without reading them is not served any more.
pub(crate) const ANSWERS: usize = 1024;
/// The largest message: what Go's ends read of one, and its head.
pub(crate) const MESSAGE: usize = 1024 * 1024 + 32;

/// Why a tunnel's WebSocket is over.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("the peer closed the tunnel")]
    Closed,
    #[error("the tunnel's connection broke")]
    Broken(#[from] io::Error),
    #[error("no frames of a WebSocket: {0}")]
    Protocol(&'static str),
    #[error("a message of the tunnel is longer than {MESSAGE} bytes")]
    TooLong,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message was not taken within {WRITE:?}")]
    Stalled,
    #[error("{ANSWERS} answers were not taken")]
    Unread,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
}
