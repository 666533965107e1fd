//! Connections that are not sessions yet.
//!
//! They cost memory and time before anyone knows who they are, so both are bounded: no TLS state before the peer's
//! first byte, and the arithmetic runs on a thread of low priority, so that ten thousand nodes that come back at once do not
//! delay the sessions that are up. Of peers that say nothing the oldest gives way when there are too many; those that speak
//! wait in [`line`].

mod line;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use line::Line;
pub(super) use line::Listened;

/// Peers that have connected and said nothing; each costs a socket.
const SILENT: usize = 8192;
/// Peers in the middle of TLS or the upgrade over TCP; each costs about 20 KiB.
const TALKING: usize = 512;
/// Peers that have spoken and wait until they may be; each costs a socket.
const LINE: usize = 16_384;
/// Peers in the middle of a handshake over UDP.
const TALKING_QUIC: usize = 1024;
/// Of these, as many as make a peer over UDP prove its address first.
const CROWD: usize = 128;
/// Handshakes over UDP that have a turn at once. A QUIC connection stays on the threads it was accepted on, so these
/// run among the packets of connections that are up and must be few.
const TURNS: usize = 32;
/// Time after which a turn is over, whatever became of the handshake: a slow peer does not hold up the line.
const TURN: Duration = Duration::from_millis(250);
/// Time a peer has for its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How much nicer than the sessions the handshake threads are.
const NICE: i32 = 10;

/// A limited number of places; the oldest loses its own to a newcomer.
#[derive(Clone)]
pub(super) struct HandshakeSlots {
    limit: usize,
    taken: Arc<Mutex<(u64, BTreeMap<u64, CancellationToken>)>>,
}

pub(super) struct HandshakeSlot {
    places: HandshakeSlots,
    number: u64,
    pub(super) lost: CancellationToken,
}

impl HandshakeSlots {
    pub(super) fn new(limit: usize) -> HandshakeSlots {
        HandshakeSlots { limit, taken: Arc::default() }
    }

    fn count(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).1.len()
    }

    pub(super) fn take(&self) -> HandshakeSlot {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = CancellationToken::new();
        taken.0 += 1;
        let number = taken.0;
        taken.1.insert(number, lost.clone());
        if taken.1.len() > self.limit
            && let Some((_, oldest)) = taken.1.pop_first()
        {
            oldest.cancel();
        }
        HandshakeSlot { places: self.clone(), number, lost }
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.1.remove(&self.number);
    }
}

/// Where handshakes run.
pub struct Handshakes {
    silent: HandshakeSlots,
    line: Arc<Line>,
    /// Handshakes over UDP.
    talking: HandshakeSlots,
    turns: Arc<Semaphore>,
    runtime: Option<Runtime>,
    /// Everything of QUIC below its frames: what comes over UDP delays nobody who came over TCP.
    datagrams: Option<Runtime>,
}

impl Handshakes {
    /// `datagrams`: whether there will be any.
    pub fn build(datagrams: bool) -> std::io::Result<Handshakes> {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let builder = |name: &str| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads).thread_name(name);
            builder
        };
        let runtime = builder("handshakes")
            .on_thread_start(|| daemon::priority::patient(NICE))
            .enable_time()
            .build()?;
        let datagrams = datagrams.then(|| builder("datagrams").enable_all().build()).transpose()?;
        Ok(Handshakes {
            silent: HandshakeSlots::new(SILENT),
            line: Line::new(TALKING, LINE),
            talking: HandshakeSlots::new(TALKING_QUIC),
            turns: Arc::new(Semaphore::new(TURNS)),
            runtime: Some(runtime),
            datagrams,
        })
    }

    /// Does something where datagrams are worked on.
    pub fn among_datagrams<T>(&self, work: impl FnOnce() -> T) -> T {
        let _there = self.datagrams.as_ref().map(Runtime::enter);
        work()
    }

    /// Waits for the peer's first byte and for its turn, then runs `handshake` on the handshake threads. `None` if the peer
    /// stays silent, gives way to others, or too many wait.
    pub async fn run<T, F>(
        &self,
        tcp: TcpStream,
        handshake: impl FnOnce(Listened<TcpStream>) -> F,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let place = self.silent.take();
        let spoke = tokio::select! {
            biased;
            _ = place.lost.cancelled() => false,
            readable = tokio::time::timeout(FIRST_BYTE, tcp.readable()) => matches!(readable, Ok(Ok(()))),
        };
        drop(place);
        if !spoke {
            return None;
        }
        // Small frames must not wait for each other; an error only means that they do.
        let _ = tcp.set_nodelay(true);
        let (tcp, heard) = Listened::new(tcp);
        let talker = self.line.enter(heard).await?;
        let (handshake, runtime) = (handshake(tcp), self.runtime.as_ref()?);
        let task = runtime.spawn(async move {
            tokio::select! {
                biased;
                _ = talker.lost.cancelled() => None,
                result = handshake => Some(result),
            }
        });
        task.await.ok().flatten()
    }

    /// True if many handshakes run over UDP.
    pub fn is_crowded(&self) -> bool {
        self.talking.count() >= CROWD
    }

    /// Runs a handshake over UDP where datagrams are worked on, when it is its turn. `None` if it gives way to newer ones.
    pub async fn acquire_slot<T: Send + 'static>(
        &self,
        handshake: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let place = self.talking.take();
        let turns = self.turns.clone();
        let work = async move {
            // Never closed.
            let turn = turns.acquire_owned().await.ok();
            tokio::pin!(handshake);
            tokio::select! {
                biased;
                done = &mut handshake => return done,
                _ = tokio::time::sleep(TURN) => drop(turn),
            }
            handshake.await
        };
        let lost = place.lost.clone();
        let task = self.datagrams.as_ref()?.spawn(async move {
            tokio::select! {
                biased;
                _ = lost.cancelled() => None,
                done = work => Some(done),
            }
        });
        AbortOnDropHandle::new(task).await.ok().flatten()
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        // A runtime may not be dropped where it would block another.
        for runtime in [self.runtime.take(), self.datagrams.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_to_a_newcomer() {
        let places = HandshakeSlots::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(!first.lost.is_cancelled());
        let third = places.take();
        assert!(first.lost.is_cancelled() && !second.lost.is_cancelled() && !third.lost.is_cancelled());
        drop(second);
        let fourth = places.take();
        assert!(!third.lost.is_cancelled() && !fourth.lost.is_cancelled());
    }

    #[tokio::test]
    async fn many_handshakes_are_a_crowd_until_they_end() {
        let handshakes = Handshakes::build(true).unwrap();
        let talking: Vec<HandshakeSlot> = (1..CROWD).map(|_| handshakes.talking.take()).collect();
        assert!(!handshakes.is_crowded());
        let last = handshakes.talking.take();
        assert!(handshakes.is_crowded());
        drop((talking, last));
        assert!(!handshakes.is_crowded());
    }

    #[tokio::test]
    async fn slow_peers_over_udp_do_not_hold_up_the_line() {
        let handshakes = Arc::new(Handshakes::build(true).unwrap());
        for _ in 0..TURNS {
            let handshakes = handshakes.clone();
            tokio::spawn(async move { handshakes.acquire_slot(std::future::pending::<()>()).await });
        }
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        assert_eq!(handshakes.acquire_slot(async { 7 }).await, Some(7));
        assert!(began.elapsed() >= TURN);
    }

    #[tokio::test]
    async fn a_handshake_starts_with_the_peers_first_byte() {
        use tokio::io::AsyncWriteExt;
        let handshakes = Handshakes::build(true).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        peer.write_all(b"x").await.unwrap();
        let name = handshakes.run(tcp, |_tcp| async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(name.await.flatten().as_deref(), Some("handshakes"));
    }
}
