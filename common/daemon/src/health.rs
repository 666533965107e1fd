//! What a program's rooms say about themselves: not ready yet, at work, stuck, ended. Read by probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A room that handles one input for longer than this is stuck. Everything a room waits for while it handles an input
/// has a deadline far below it.
pub const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Handle of the health of all rooms. Clones share it.
#[derive(Clone, Default)]
pub struct Health {
    rooms: Arc<Mutex<BTreeMap<&'static str, Room>>>,
}

#[derive(Default)]
struct Room {
    waiting: bool,
    /// Since when each input under way is handled, by the number of its beginning.
    busy: BTreeMap<u64, Instant>,
    begun: u64,
    /// Why the room ended although the program goes on.
    ended: Option<String>,
}

/// A room that is not ready yet. It never is if this is dropped, as by an error.
#[must_use]
pub struct Unready {
    name: &'static str,
    health: Health,
}

/// How a room shows that it moves.
#[derive(Clone)]
pub struct Beat {
    name: &'static str,
    health: Health,
}

/// An input that is being handled; dropping it says that it was.
#[must_use]
pub struct Busy<'a> {
    beat: &'a Beat,
    number: u64,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names something the program waits for before it is ready.
    pub fn wait_for(&self, name: &'static str) -> Unready {
        self.lock().entry(name).or_default().waiting = true;
        Unready { name, health: self.clone() }
    }

    /// Names a room that shows when it works.
    pub fn beat(&self, name: &'static str) -> Beat {
        self.lock().entry(name).or_default();
        Beat { name, health: self.clone() }
    }

    /// Notes that a room ended and the program goes on without it.
    pub fn ended(&self, name: &'static str, reason: &str) {
        self.lock().entry(name).or_default().ended = Some(reason.to_owned());
    }

    /// What is still waited for.
    pub fn waiting(&self) -> Vec<&'static str> {
        self.lock().iter().filter(|(_, room)| room.waiting).map(|(name, _)| *name).collect()
    }

    /// Rooms that handle one input for too long.
    pub fn stuck(&self) -> Vec<&'static str> {
        let now = Instant::now();
        self.lock().iter().filter(|(_, room)| room.is_stuck(now)).map(|(name, _)| *name).collect()
    }

    /// Every room by name, with what is wrong with it.
    pub fn report(&self) -> impl Iterator<Item = (&'static str, Option<String>)> + use<> {
        let now = Instant::now();
        let rooms: Vec<_> = self.lock().iter().map(|(name, room)| (*name, room.trouble(now))).collect();
        rooms.into_iter()
    }
}

impl Room {
    fn is_stuck(&self, now: Instant) -> bool {
        self.busy.values().any(|since| now.duration_since(*since) > STUCK_AFTER)
    }

    fn trouble(&self, now: Instant) -> Option<String> {
        if let Some(reason) = &self.ended {
            return Some(format!("ended: {reason}"));
        }
        if self.is_stuck(now) {
            return Some(format!("handles one input for more than {} s", STUCK_AFTER.as_secs()));
        }
        self.waiting.then(|| "not ready yet".to_owned())
    }
}

impl Beat {
    /// Call when an input is taken from the inbox; hold what it returns until it is handled.
    pub fn begin(&self) -> Busy<'_> {
        let mut rooms = self.health.lock();
        let room = rooms.entry(self.name).or_default();
        room.begun += 1;
        room.busy.insert(room.begun, Instant::now());
        Busy { beat: self, number: room.begun }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.beat.health.lock().get_mut(self.beat.name) {
            room.busy.remove(&self.number);
        }
    }
}

impl Unready {
    /// What was waited for is there.
    pub fn ready(self) {
        let mut rooms = self.health.lock();
        if let Some(room) = rooms.get_mut(self.name) {
            room.waiting = false;
        }
        if rooms.values().all(|room| !room.waiting) {
            tracing::info!("ready");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_room_is_stuck_while_one_input_takes_too_long() {
        let health = Health::default();
        let beat = health.beat("devicecontroller");
        tokio::time::advance(STUCK_AFTER * 2).await;
        assert!(health.stuck().is_empty(), "a room without inputs is not stuck");
        let busy = beat.begin();
        tokio::time::advance(STUCK_AFTER).await;
        assert!(health.stuck().is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.stuck(), ["devicecontroller"]);
        drop(busy);
        assert!(health.stuck().is_empty());
    }

    #[test]
    fn a_program_is_ready_when_all_it_waits_for_is_and_not_when_a_room_gives_up() {
        let health = Health::default();
        let (one, other) = (health.wait_for("cloudhub"), health.wait_for("register"));
        assert_eq!(health.waiting(), ["cloudhub", "register"]);
        one.ready();
        drop(other);
        assert_eq!(health.waiting(), ["register"]);
        health.wait_for("register").ready();
        assert!(health.waiting().is_empty());
        assert!(health.report().all(|(_, trouble)| trouble.is_none()));
    }
}
