//! A limited number of places. Who has said least for longest loses its own to a newcomer. Pure but for the waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a client has done so far: the least gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Silent,
    Speaking,
}

#[derive(Default)]
struct Taken {
    last: u64,
    unsettled: BTreeMap<(Stage, u64), CancellationToken>,
    settled: BTreeSet<u64>,
}

#[derive(Clone)]
pub(crate) struct EvictingSlots {
    limit: usize,
    taken: Arc<Mutex<Taken>>,
    changed: Arc<Notify>,
}

/// A client's place; it is free again when the last clone is dropped.
#[derive(Clone)]
pub struct Place(Arc<Held>);

struct Held {
    places: EvictingSlots,
    number: u64,
}

impl EvictingSlots {
    pub(crate) fn new(limit: usize) -> EvictingSlots {
        EvictingSlots { limit: limit.max(1), taken: Arc::default(), changed: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once there is a place for a newcomer: a free one, or that of a client that may lose it.
    pub(crate) async fn vacancy(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let taken = self.lock();
                if taken.count() < self.limit || !taken.unsettled.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Takes a place, and the token that is cancelled when it is lost. In a full house another one loses its own.
    pub(crate) fn take(&self) -> (Place, CancellationToken) {
        let mut taken = self.lock();
        if taken.count() >= self.limit
            && let Some((_, lost)) = taken.unsettled.pop_first()
        {
            lost.cancel();
        }
        let lost = CancellationToken::new();
        taken.last += 1;
        let number = taken.last;
        taken.unsettled.insert((Stage::Silent, number), lost.clone());
        (Place(Arc::new(Held { places: self.clone(), number })), lost)
    }
}

impl Place {
    /// The first byte came.
    pub(crate) fn speaks(&self) {
        let Held { places, number } = &*self.0;
        let mut taken = places.lock();
        if let Some(lost) = taken.unsettled.remove(&(Stage::Silent, *number)) {
            taken.unsettled.insert((Stage::Speaking, *number), lost);
        }
    }

    /// The client made a request of the protocol: it keeps its place until it leaves.
    pub fn settle(&self) {
        let Held { places, number } = &*self.0;
        let mut taken = places.lock();
        if taken.forget(*number) {
            taken.settled.insert(*number);
        }
    }
}

impl Taken {
    fn count(&self) -> usize {
        self.unsettled.len() + self.settled.len()
    }

    /// Removes an unsettled place. False if it was lost, or is settled.
    fn forget(&mut self, number: u64) -> bool {
        [Stage::Silent, Stage::Speaking]
            .into_iter()
            .any(|stage| self.unsettled.remove(&(stage, number)).is_some())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        // One that was lost is somebody else's by now.
        if !taken.forget(self.number) {
            taken.settled.remove(&self.number);
        }
        drop(taken);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_said_least_for_longest_gives_way_and_the_settled_never() {
        let places = EvictingSlots::new(3);
        let (settled, never) = places.take();
        settled.settle();
        let (speaking, second) = places.take();
        speaking.speaks();
        let (_silent, first) = places.take();
        let (_newcomer, last) = places.take();
        assert!(first.is_cancelled() && !second.is_cancelled());
        let _another = places.take();
        assert!(last.is_cancelled() && !second.is_cancelled(), "silent before speaking");
        assert!(!never.is_cancelled());
    }

    #[tokio::test]
    async fn there_is_no_vacancy_while_all_are_settled() {
        let places = EvictingSlots::new(2);
        let both = [places.take().0, places.take().0];
        tokio::time::timeout(std::time::Duration::from_secs(10), places.vacancy()).await.unwrap();
        both.iter().for_each(Place::settle);
        tokio::select! {
            biased;
            _ = places.vacancy() => panic!("there is no place"),
            _ = tokio::task::yield_now() => {}
        }
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.vacancy().await }
        });
        drop(both);
        waiting.await.unwrap();
        assert_eq!(places.lock().count(), 0);
    }

    #[test]
    fn a_lost_place_is_not_given_back_twice() {
        let places = EvictingSlots::new(1);
        let (lost, token) = places.take();
        let (kept, _) = places.take();
        assert!(token.is_cancelled());
        lost.settle();
        drop(lost);
        assert_eq!(places.lock().count(), 1);
        drop(kept);
        assert_eq!(places.lock().count(), 0);
    }
}
