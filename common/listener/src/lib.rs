//! The accept loop of every program, so that no client can close a door for the others.
//!
//! ```text
//! accept --place--> silent --first byte--> speaking --Place::settle--> settled --> ended
//!                     |  deadline, or a newcomer needs the place: closed
//!                     +-- speaking ones give way too, after all silent ones, and then idle ones whose requests are answered
//!                         (Place::busy); settled and busy ones never
//! ```
//!
//! Promises: a full house takes the place of whoever has said least for longest, so that silence locks out nobody; a
//! failed accept (out of descriptors) is followed by a rest; connections whose peer is gone are noticed by TCP itself;
//! after the stop everything ends within [`Terms::drain`], whatever the clients do.

#![deny(clippy::missing_errors_doc)]

mod handed;
pub mod http2;
mod next;
mod places;
mod private;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use handed::{Hand, Handed, handed};
pub use next::{Listen, Stream, next};
use places::EvictingSlots;
pub use places::{Busy, Place};
pub use private::private;

/// What the clients of one socket are granted.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What is connected to, for the log: "the monitor port".
    pub what: &'static str,
    /// Connections open at once. More wait in the kernel while all of these are settled.
    pub places: usize,
    /// How long a client may take to say anything.
    pub first_byte: Duration,
    /// How long connections may take to end after the stop; those that do not are aborted.
    pub drain: Duration,
}

/// A client that has said something.
pub struct Client<L: Listen> {
    pub stream: L::Stream,
    pub peer: L::Peer,
    /// Held for as long as the connection is served.
    pub place: Place,
    /// The server ends: finish what is under way.
    pub stop: CancellationToken,
}

/// Serves each client in a task of its own until `stop`, then waits for them and aborts who does not end.
pub async fn serve<L, S, F>(listener: L, terms: Terms, stop: CancellationToken, serve: S)
where
    L: Listen,
    S: Fn(Client<L>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (places, serve) = (EvictingSlots::new(terms.places), Arc::new(serve));
    let mut clients = JoinSet::new();
    loop {
        let arrival = async {
            places.vacancy().await;
            next(&listener, terms.what).await
        };
        let (stream, peer) = tokio::select! {
            biased;
            _ = stop.cancelled() => break,
            arrival = arrival => arrival,
        };
        while clients.try_join_next().is_some() {}
        let (place, lost) = places.take();
        let client = Client { stream, peer, place, stop: stop.clone() };
        let served = spoken(client, terms.first_byte, serve.clone());
        let what = terms.what;
        clients.spawn(async move {
            tokio::select! {
                biased;
                _ = lost.cancelled() => tracing::debug!(peer = what, "an idle connection gave way to a newer one"),
                _ = served => {}
            }
        });
    }
    drop(listener);
    end(clients, &terms).await;
}

/// Waits for the first byte, then serves. Nothing is made for a client that says nothing.
async fn spoken<L, S, F>(client: Client<L>, within: Duration, serve: Arc<S>)
where
    L: Listen,
    S: Fn(Client<L>) -> F,
    F: Future<Output = ()>,
{
    let said = tokio::select! {
        biased;
        _ = client.stop.cancelled() => false,
        said = tokio::time::timeout(within, client.stream.said_something()) => matches!(said, Ok(Ok(()))),
    };
    if said {
        client.place.speaks();
        serve(client).await;
    }
}

async fn end(mut clients: JoinSet<()>, terms: &Terms) {
    let ended = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(terms.drain, ended).await.is_err() {
        tracing::info!(
            peer = terms.what,
            count = clients.len(),
            "aborted connections that did not end in time"
        );
        clients.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
