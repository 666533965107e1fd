//! The long-running tasks of a program, owned in one place: each has a name, and none ends unseen.
//!
//! ```text
//! running --stop asked, or an essential room ended--> draining --all ended, or the deadline--> over
//! ```
//!
//! An essential room that ends before the stop, with or without an error, by a panic as well, takes the program down
//! under its name. The end of an optional room is logged, and `/readyz?verbose` shows it.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::errors::panic_text;
use crate::health::Health;

/// What a room does until it ends. Rooms give it boxed: so it is compiled with their crate, and not anew with the program.
pub type Work<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

/// Rooms that run. Dropping it aborts them.
pub struct Rooms {
    stop: CancellationToken,
    health: Health,
    tasks: JoinSet<anyhow::Result<()>>,
    rooms: HashMap<Id, Room>,
}

#[derive(Clone, Copy)]
struct Room {
    name: &'static str,
    essential: bool,
}

impl Rooms {
    /// `stop` is cancelled from outside to end the program, and by [`Rooms::run`] when an essential room ended.
    pub fn new(stop: CancellationToken, health: Health) -> Rooms {
        Rooms { stop, health, tasks: JoinSet::new(), rooms: HashMap::new() }
    }

    /// What every room waits for to end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a room without which the program is of no use.
    pub fn essential<E: Into<anyhow::Error>>(
        &mut self,
        name: &'static str,
        room: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn(Room { name, essential: true }, room);
    }

    /// Starts a room whose end the program outlives.
    pub fn optional<E: Into<anyhow::Error>>(
        &mut self,
        name: &'static str,
        room: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn(Room { name, essential: false }, room);
    }

    /// Boxed, so that what tokio makes of a task is compiled once and not for each room.
    fn spawn<E: Into<anyhow::Error>>(
        &mut self,
        room: Room,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let task: Work<anyhow::Error> = Box::pin(async move { task.await.map_err(Into::into) });
        let handle = self.tasks.spawn(task);
        self.rooms.insert(handle.id(), room);
    }

    /// Runs until `stop` or the first end of an essential room, then gives all of them `drain` to end, and says which
    /// had to be aborted.
    ///
    /// # Errors
    /// That of the essential room that ended first, under its name; after `stop`, the first error of any room.
    pub async fn run(mut self, drain: Duration) -> anyhow::Result<()> {
        let first = self.until_stop().await;
        self.stop.cancel();
        let drained = tokio::time::timeout(drain, self.drained()).await;
        let outcome = drained.unwrap_or_else(|_| {
            let rooms = self.left().join(", ");
            tracing::warn!(
                rooms,
                after_ms = drain.as_millis() as u64,
                "rooms did not end in time and were aborted"
            );
            Ok(())
        });
        first.and(outcome)
    }

    async fn until_stop(&mut self) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        loop {
            let ended = tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                ended = self.next() => ended,
            };
            let Some((room, result)) = ended else {
                stop.cancelled().await;
                return Ok(());
            };
            // A room may have seen the stop before this task did.
            let early = !stop.is_cancelled();
            match result {
                Ok(()) if early && room.essential => {
                    return Err(anyhow!("{} ended without being asked to", room.name));
                }
                Err(error) if room.essential => return Err(error),
                Err(error) => self.note_end(room, &format!("{error:#}")),
                Ok(()) if early => self.note_end(room, "ended without being asked to"),
                Ok(()) => {}
            }
        }
    }

    fn note_end(&self, room: Room, reason: &str) {
        tracing::error!(room = room.name, error = reason, "an optional room ended; the rest goes on");
        self.health.ended(room.name, reason);
    }

    async fn drained(&mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some((_, result)) = self.next().await {
            outcome = outcome.and(result);
        }
        outcome
    }

    /// The next room that ends, and how.
    async fn next(&mut self) -> Option<(Room, anyhow::Result<()>)> {
        let joined = self.tasks.join_next_with_id().await?;
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let room = self.rooms.remove(&id).unwrap_or(Room { name: "a room", essential: true });
        let result = match joined {
            Ok((_, result)) => result.context(room.name),
            Err(error) if error.is_panic() => {
                Err(anyhow!("{} panicked: {}", room.name, panic_text(&*error.into_panic())))
            }
            Err(_) => Err(anyhow!("{} was aborted", room.name)),
        };
        Some((room, result))
    }

    fn left(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.rooms.values().map(|room| room.name).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::future::pending;

    const DRAIN: Duration = Duration::from_secs(5);

    fn rooms() -> Rooms {
        Rooms::new(CancellationToken::new(), Health::default())
    }

    async fn obeys(stop: CancellationToken) -> Result<(), Infallible> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_essential_end_takes_the_program_down_under_its_name() {
        for (room, said) in [
            (Box::pin(async { Ok(()) }) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>, "hub ended"),
            (Box::pin(async { Err(anyhow!("port taken")) }), "hub: port taken"),
            (Box::pin(async { panic!("no such key {}", 7) }), "hub panicked: no such key 7"),
        ] {
            let mut rooms = rooms();
            rooms.essential("neighbour", obeys(rooms.stop()));
            rooms.essential("hub", room);
            let error = format!("{:#}", rooms.run(DRAIN).await.unwrap_err());
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_optional_room_is_shown_and_stops_nothing() {
        let stop = CancellationToken::new();
        let health = Health::default();
        let mut rooms = Rooms::new(stop.clone(), health.clone());
        rooms.essential("hub", obeys(stop.clone()));
        rooms.optional("trimmer", async { Err(anyhow!("no /proc")) });
        let running = tokio::spawn(rooms.run(DRAIN));
        while health.report().all(|(name, _)| name != "trimmer") {
            tokio::task::yield_now().await;
        }
        assert!(!stop.is_cancelled() && !running.is_finished());
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_does_not_end_is_aborted_at_the_deadline() {
        let mut rooms = rooms();
        rooms.essential("deaf", pending::<Result<(), Infallible>>());
        rooms.essential("hub", obeys(rooms.stop()));
        rooms.stop().cancel();
        let began = tokio::time::Instant::now();
        rooms.run(DRAIN).await.unwrap();
        assert_eq!(began.elapsed(), DRAIN);
    }
}
