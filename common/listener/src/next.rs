//! The next client of a socket, whatever goes wrong meanwhile.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Rest after a failed accept: out of descriptors is the usual reason, and they come back when connections close.
const REST: Duration = Duration::from_millis(100);
/// A TCP peer that is silent for this long is asked whether it is there,
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// and again at this distance,
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// so often before it is given up.
const KEEPALIVE_PROBES: u32 = 4;

/// What can be accepted from.
pub trait Listen: Send + Sync + 'static {
    type Stream: Stream;
    type Peer: Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

/// An accepted connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// Returns when there is something to read.
    ///
    /// # Errors
    /// The client left, or its connection failed.
    fn said_something(&self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        watch_over(&stream);
        Ok((stream, peer))
    }
}

impl Stream for TcpStream {
    async fn said_something(&self) -> io::Result<()> {
        loop {
            // Says so sometimes although there is nothing.
            self.readable().await?;
            match self.try_io(Interest::READABLE, || peek(self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return peeked,
            }
        }
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Peer = ();

    async fn accept(&self) -> io::Result<(UnixStream, ())> {
        Ok((UnixListener::accept(self).await?.0, ()))
    }
}

impl Stream for UnixStream {
    async fn said_something(&self) -> io::Result<()> {
        loop {
            // Says so sometimes although there is nothing.
            self.readable().await?;
            match self.try_io(Interest::READABLE, || peek(self)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                peeked => return peeked,
            }
        }
    }
}

/// Looks for a byte and leaves it there. Whoever left without one has said nothing.
fn peek(socket: impl AsFd) -> io::Result<()> {
    let (_, length) = recv(socket, &mut [0_u8; 1], RecvFlags::PEEK)?;
    if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// A peer whose machine or cable is gone ends the connection within some two minutes. Small answers leave at once.
/// A failure of either only means that it is not so.
fn watch_over(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES);
}

/// The next client of `listener`. `what` names the socket in warnings.
pub async fn next<L: Listen>(listener: &L, what: &'static str) -> (L::Stream, L::Peer) {
    loop {
        match listener.accept().await {
            Ok(client) => return client,
            // A client that left before it was accepted is its own affair.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(peer = what, error = %error, "could not accept a connection, trying again");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
