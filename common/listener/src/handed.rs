//! Connections that were accepted elsewhere, as something to accept from.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use crate::Listen;

/// Where connections are handed over. Clones lead to the same place.
#[derive(Clone, Debug)]
pub struct Hand(mpsc::Sender<(TcpStream, SocketAddr)>);

/// What was handed over. Without a hand left it waits for ever.
#[derive(Debug)]
pub struct Handed(Mutex<mpsc::Receiver<(TcpStream, SocketAddr)>>);

/// At most `waiting` connections that nobody has taken yet.
pub fn handed(waiting: usize) -> (Hand, Handed) {
    let (hand, handed) = mpsc::channel(waiting);
    (Hand(hand), Handed(Mutex::new(handed)))
}

impl Hand {
    /// Hands a connection over. Where too many wait, or nobody takes any, it is closed.
    pub fn give(&self, stream: TcpStream, peer: SocketAddr) {
        if self.0.try_send((stream, peer)).is_err() {
            tracing::debug!(%peer, "a connection nobody took was closed");
        }
    }
}

impl Listen for Handed {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(client) => Ok(client),
            None => std::future::pending().await,
        }
    }
}
