//! A limited number of places. Who has said least for longest loses its own to a newcomer. Pure but for the waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a client does: who does the least gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Silent,
    Speaking,
    /// Its requests are answered.
    Idle,
}

#[derive(Clone, Copy)]
enum Standing {
    /// Since the second of these, which is a number of [`Taken::last`].
    GivesWay(Stage, u64),
    /// With so many requests under way.
    Busy(usize),
}

#[derive(Default)]
struct Taken {
    last: u64,
    clients: HashMap<u64, (Standing, CancellationToken)>,
    /// The clients that give way, in their order.
    order: BTreeMap<(Stage, u64), u64>,
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

/// A request of a client is under way until this is dropped: its place is not lost.
pub struct Busy(Place);

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
                if taken.clients.len() < self.limit || !taken.order.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Takes a place, and the token that is cancelled when it is lost. In a full house another one loses its own.
    pub(crate) fn take(&self) -> (Place, CancellationToken) {
        let mut taken = self.lock();
        if taken.clients.len() >= self.limit
            && let Some((_, loser)) = taken.order.pop_first()
            && let Some((_, lost)) = taken.clients.remove(&loser)
        {
            lost.cancel();
        }
        let lost = CancellationToken::new();
        let number = taken.next();
        taken.clients.insert(number, (Standing::GivesWay(Stage::Silent, number), lost.clone()));
        taken.order.insert((Stage::Silent, number), number);
        (Place(Arc::new(Held { places: self.clone(), number })), lost)
    }
}

impl Place {
    /// The first byte came.
    pub(crate) fn speaks(&self) {
        self.change(|standing, _| match standing {
            Standing::GivesWay(Stage::Silent, since) => Standing::GivesWay(Stage::Speaking, since),
            other => other,
        });
    }

    /// The client made a request of the protocol: it keeps its place until it leaves.
    pub fn settle(&self) {
        self.change(|_, _| Standing::Busy(1));
    }

    /// The client made a request: it keeps its place until that is answered, and those that are under way beside it. Then it gives
    /// way again, after all who made none.
    pub fn busy(&self) -> Busy {
        self.change(|standing, _| match standing {
            Standing::Busy(requests) => Standing::Busy(requests + 1),
            Standing::GivesWay(..) => Standing::Busy(1),
        });
        Busy(self.clone())
    }

    fn change(&self, change: impl FnOnce(Standing, u64) -> Standing) {
        self.0.places.lock().change(self.0.number, change);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|standing, now| match standing {
            Standing::Busy(requests @ 2..) => Standing::Busy(requests - 1),
            _ => Standing::GivesWay(Stage::Idle, now),
        });
        self.0.0.places.changed.notify_one();
    }
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// `change` is given where the client stands, and a number that is later than all. One that has lost its place stands nowhere.
    fn change(&mut self, number: u64, change: impl FnOnce(Standing, u64) -> Standing) {
        let now = self.next();
        let Some((standing, _)) = self.clients.get_mut(&number) else { return };
        let before = std::mem::replace(standing, change(*standing, now));
        let after = *standing;
        if let Standing::GivesWay(stage, since) = before {
            self.order.remove(&(stage, since));
        }
        if let Standing::GivesWay(stage, since) = after {
            self.order.insert((stage, since), number);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some((Standing::GivesWay(stage, since), _)) = taken.clients.remove(&self.number) {
            taken.order.remove(&(stage, since));
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

    #[test]
    fn an_idle_client_gives_way_after_those_who_made_no_request_and_a_busy_one_never() {
        let places = EvictingSlots::new(3);
        let (busy, kept) = places.take();
        let (watch, request) = (busy.busy(), busy.busy());
        drop(request);
        let (one, first) = places.take();
        drop(one.busy());
        let (two, second) = places.take();
        drop(two.busy());
        drop(one.busy());
        let (_three, third) = places.take();
        assert!(second.is_cancelled() && !first.is_cancelled(), "the longest idle one");
        let (_four, fourth) = places.take();
        assert!(third.is_cancelled() && !first.is_cancelled(), "one that said nothing");
        drop(watch);
        let _five = places.take();
        assert!(fourth.is_cancelled() && !first.is_cancelled());
        assert!(!kept.is_cancelled());
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
        assert_eq!(places.lock().clients.len(), 0);
    }

    #[test]
    fn a_lost_place_is_not_given_back_twice() {
        let places = EvictingSlots::new(1);
        let (lost, token) = places.take();
        let (kept, _) = places.take();
        assert!(token.is_cancelled());
        lost.settle();
        drop(lost);
        assert_eq!(places.lock().clients.len(), 1);
        drop(kept);
        assert_eq!(places.lock().clients.len(), 0);
    }
}
