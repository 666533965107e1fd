//! What one room hears from its watches.

use daemon::health::{Beat, Busy};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{FromWatch, Resource, WatchEvent};

/// The watches of one room as one stream, and whether they have told everything that existed at the start.
pub struct Follower {
    seen: mpsc::Receiver<FromWatch>,
    /// Watches that have not told everything yet.
    missing: usize,
    /// Resources whose watches have.
    listed: watch::Sender<Vec<Resource>>,
    complete: watch::Sender<bool>,
    beat: Beat,
}

impl Follower {
    /// `seen` is fed by `watches` watches.
    pub fn new(seen: mpsc::Receiver<FromWatch>, watches: usize, beat: Beat) -> Follower {
        let (listed, complete) = (watch::channel(Vec::new()).0, watch::channel(watches == 0).0);
        Follower { seen, missing: watches, listed, complete, beat }
    }

    /// True once everything that existed at the start was told.
    pub fn complete(&self) -> watch::Receiver<bool> {
        self.complete.subscribe()
    }

    /// The resources of which everything that existed at the start was taken in.
    pub fn listed(&self) -> watch::Receiver<Vec<Resource>> {
        self.listed.subscribe()
    }

    /// The next change. `None`: the program stops, or a watch ended.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<(Resource, WatchEvent)> {
        loop {
            let seen = tokio::select! {
                biased;
                _ = stop.cancelled() => return None,
                seen = self.seen.recv() => seen?,
            };
            match seen.event {
                WatchEvent::Synced => {
                    self.missing = self.missing.saturating_sub(1);
                    self.listed.send_modify(|listed| listed.push(seen.resource));
                    self.complete.send_replace(self.missing == 0);
                }
                event => return Some((seen.resource, event)),
            }
        }
    }

    /// Hold it while a change is handled, so that a room that hangs is noticed.
    pub fn busy(&self) -> Busy<'_> {
        self.beat.begin()
    }
}
