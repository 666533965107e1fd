//! The way to the API server.

use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// The type of an event, with any object, that ends a watch where the way to the API server cannot tell all that happened: whoever
/// follows lists, and finds out. No API server sends it.
pub const LIST_AGAIN: &str = "LIST";

/// A stream of bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// There is no link to the cloud now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is cut off from the cloud")]
pub struct CutOff;

/// A stream that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Io>, CutOff>> + Send + 'a>>;

/// The way to the API server, through the session with the cloud. What is at its other end speaks HTTP/1.1, hands each
/// request to the API server as its caller (`Authorization` as it came, or `Causeway-Caller: node`), and answers `GET
/// /.causeway/v1/keys` itself.
pub trait Upstream: Send + Sync + 'static {
    /// A new stream for one HTTP/1.1 request; fails at once while the node is cut off.
    fn open(&self) -> Opening<'_>;
    /// Whether the node is connected (changes are told).
    fn connected(&self) -> watch::Receiver<bool>;
}
