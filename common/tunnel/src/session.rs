//! A tunnel that is up, at each end.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::SocketError;
use crate::socket::{Event, Socket};
use crate::websocket::Role;
use crate::{CloudEnd, EdgeEnd, Frame, Kind, TunnelEnd};

/// How often the edge pings (KubeEdge's edges do each 5 s), and what.
const PING: Duration = Duration::from_secs(5);
const PINGED: &[u8] = b"ping you";
/// A peer of which nothing is heard for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// Why a tunnel is over.
#[derive(Debug, thiserror::Error)]
pub enum Over {
    #[error("told to stop")]
    Stopped,
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Told(#[from] TunnelEnd),
}

/// Runs the edge's end over an upgraded connection until `stop` or the tunnel's end. `connect` reaches the Node API.
pub async fn run_edge<S, C, F, A>(stream: S, connect: C, stop: CancellationToken) -> Over
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    C: Fn() -> F,
    F: Future<Output = io::Result<A>> + Send + 'static,
    A: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut socket, mut end) = (Socket::new(stream, Role::Client), EdgeEnd::default());
    let (mut pings, mut heard) = (tokio::time::interval(PING), Instant::now());
    loop {
        let is_free = socket.is_free();
        let step = tokio::select! {
            () = stop.cancelled() => {
                socket.close().await;
                return Over::Stopped;
            }
            event = socket.next() => match event {
                Err(error) => Err(error),
                Ok(Event::Sent) => Ok(()),
                Ok(Event::Sign) => {
                    heard = Instant::now();
                    Ok(())
                }
                Ok(Event::Frame(frame)) => {
                    heard = Instant::now();
                    match end.take_in(frame, &connect) {
                        Err(told) => return Over::Told(told),
                        Ok(answer) => answer.map_or(Ok(()), |answer| socket.send(&answer)),
                    }
                }
            },
            _ = pings.tick() => socket.ping(PINGED),
            () = tokio::time::sleep_until(heard + SILENCE) => Err(SocketError::Silent(SILENCE)),
            frame = end.next(), if is_free => socket.send(&frame),
        };
        if let Err(error) = step {
            return Over::Socket(error);
        }
    }
}

/// Asks for a pipe to the node's Node API.
pub trait Asked: Send {
    /// `None`: there are too many connections.
    fn answer(self, pipe: Option<DuplexStream>);
}

/// Runs the cloud's end over an upgraded connection until `stop` or the tunnel's end. `next` gives who asks for a pipe; it is
/// cancel safe.
pub async fn run_cloud<S, N, F, A>(stream: S, next: N, stop: CancellationToken) -> Over
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    N: Fn() -> F,
    F: Future<Output = A>,
    A: Asked,
{
    let (mut socket, mut end) = (Socket::new(stream, Role::Server), CloudEnd::default());
    let mut heard = Instant::now();
    loop {
        let is_free = socket.is_free();
        let step = tokio::select! {
            () = stop.cancelled() => {
                let why = Bytes::from_static(b"CloudCore stops, or the node has another tunnel");
                // It may have gone.
                let _ = socket.send(&Frame::new(0, Kind::Close, why));
                socket.close().await;
                return Over::Stopped;
            }
            event = socket.next() => match event {
                Err(error) => Err(error),
                Ok(Event::Sent) => Ok(()),
                Ok(Event::Sign) => {
                    heard = Instant::now();
                    Ok(())
                }
                Ok(Event::Frame(frame)) => {
                    heard = Instant::now();
                    end.take_in(frame).map_or(Ok(()), |answer| socket.send(&answer))
                }
            },
            () = tokio::time::sleep_until(heard + SILENCE) => Err(SocketError::Silent(SILENCE)),
            asked = next() => {
                asked.answer(end.open());
                Ok(())
            }
            frame = end.next(), if is_free => socket.send(&frame),
        };
        if let Err(error) = step {
            return Over::Socket(error);
        }
    }
}
