//! Places for handshakes over TCP. Who finds none waits in line: a handshake that was begun is not thrown away for one that
//! comes later, or a fleet that comes back at once would only ever begin. Those whose peer says nothing give way to the line.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a peer may say nothing in its handshake when others wait. More than a round trip, and more than a round of all
/// handshakes takes on one thread.
const QUIET: Duration = Duration::from_secs(1);
/// How often the first in line looks for one that gives way.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time in line.
const LONGEST: Duration = Duration::from_secs(20);

/// A limited number of places and a line before them.
pub(super) struct Line {
    places: Arc<Semaphore>,
    /// Held by the first in line.
    first: tokio::sync::Mutex<()>,
    /// Peers in line, and how many there may be.
    waiting: AtomicUsize,
    longest: usize,
    talking: Mutex<Talking>,
}

/// Handshakes that have a place, by number, and the last number given.
#[derive(Default)]
struct Talking {
    last: u64,
    peers: BTreeMap<u64, (Heard, CancellationToken)>,
}

/// A place. It is free again when this is dropped.
pub(super) struct Talker {
    line: Arc<Line>,
    number: u64,
    pub(super) lost: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Line {
    /// Of so many places, and at most `longest` peers that wait for one.
    pub(super) fn new(places: usize, longest: usize) -> Arc<Line> {
        Arc::new(Line {
            places: Arc::new(Semaphore::new(places)),
            first: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            longest,
            talking: Mutex::default(),
        })
    }

    /// A place for the peer of `heard`. `None` if the line is too long.
    pub(super) async fn enter(self: &Arc<Line>, heard: Heard) -> Option<Talker> {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.wait().await?,
        };
        let lost = CancellationToken::new();
        let mut talking = self.talking();
        talking.last += 1;
        let number = talking.last;
        talking.peers.insert(number, (heard, lost.clone()));
        drop(talking);
        Some(Talker { line: self.clone(), number, lost, _place: place })
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let _counted = Counted::of(&self.waiting, self.longest)?;
        let turn = async {
            let _first = self.first.lock().await;
            let place = self.places.clone().acquire_owned();
            tokio::pin!(place);
            loop {
                self.dismiss_quietest();
                tokio::select! {
                    biased;
                    // Never closed.
                    place = &mut place => return place.ok(),
                    _ = tokio::time::sleep(LOOK) => {}
                }
            }
        };
        tokio::time::timeout(LONGEST, turn).await.ok().flatten()
    }

    /// The one whose peer has said nothing for longest gives way, if it had time enough.
    fn dismiss_quietest(&self) {
        let now = Instant::now();
        let mut talking = self.talking();
        let quiet =
            talking.peers.iter().filter_map(|(number, (heard, _))| Some((heard.quiet_for(now)?, *number)));
        let quietest = quiet.max().filter(|(quiet, _)| *quiet >= QUIET);
        if let Some((_, lost)) = quietest.and_then(|(_, number)| talking.peers.remove(&number)) {
            lost.cancel();
        }
    }

    fn talking(&self) -> MutexGuard<'_, Talking> {
        self.talking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.line.talking().peers.remove(&self.number);
    }
}

/// One of a limited number, while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn of(count: &AtomicUsize, most: usize) -> Option<Counted<'_>> {
        let counted = Counted(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Since when a peer is waited for.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Instant>>>);

impl Heard {
    fn quiet_for(&self, now: Instant) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| now.saturating_duration_since(since))
    }

    fn note(&self, waits: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = waits.then(|| since.unwrap_or_else(Instant::now));
    }
}

/// A stream that notes when its peer is waited for.
pub struct Listened<S> {
    stream: S,
    heard: Heard,
}

impl<S> Listened<S> {
    pub(super) fn new(stream: S) -> (Listened<S>, Heard) {
        let heard = Heard::default();
        (Listened { stream, heard: heard.clone() }, heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.heard.note(polled.is_pending());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// A peer that has said nothing since now.
    async fn silent() -> (Heard, Listened<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (mut ours, heard) = Listened::new(ours);
        let _ = tokio::time::timeout(Duration::ZERO, ours.read_u8()).await;
        (heard, ours, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_talks_gives_way_and_who_waits_has_its_turn_in_order() {
        let line = Line::new(1, 8);
        let first = line.enter(Heard::default()).await.unwrap();
        let (told, mut turns) = tokio::sync::mpsc::channel(8);
        for number in 0..3 {
            let (line, told) = (line.clone(), told.clone());
            tokio::spawn(async move {
                let talker = line.enter(Heard::default()).await.unwrap();
                told.send((number, talker)).await.unwrap();
            });
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(QUIET * 5).await;
        assert!(turns.try_recv().is_err() && !first.lost.is_cancelled());
        drop(first);
        for expected in 0..3 {
            let (number, _talker) = turns.recv().await.unwrap();
            assert_eq!(number, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_quietest_gives_way_to_the_line_once_it_had_time() {
        let line = Line::new(2, 8);
        let ((quiet, _ours, _theirs), busy) = (silent().await, Heard::default());
        let (quiet, busy) = (line.enter(quiet).await.unwrap(), line.enter(busy).await.unwrap());
        let began = Instant::now();
        let waiting = tokio::spawn({
            let line = line.clone();
            async move { line.enter(Heard::default()).await }
        });
        quiet.lost.cancelled().await;
        assert!(began.elapsed() >= QUIET && !busy.lost.is_cancelled());
        drop(quiet);
        assert!(waiting.await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_has_an_end() {
        let line = Line::new(1, 1);
        let _talker = line.enter(Heard::default()).await.unwrap();
        let waiting = tokio::spawn({
            let line = line.clone();
            async move { line.enter(Heard::default()).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(line.enter(Heard::default()).await.is_none());
        assert!(!waiting.await.unwrap(), "nobody waits for ever");
        assert_eq!(line.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answered_is_not_quiet() {
        use tokio::io::AsyncWriteExt;
        let (heard, mut ours, mut theirs) = silent().await;
        tokio::time::advance(QUIET * 2).await;
        assert!(heard.quiet_for(Instant::now()).unwrap() >= QUIET);
        theirs.write_u8(7).await.unwrap();
        ours.read_u8().await.unwrap();
        assert_eq!(heard.quiet_for(Instant::now()), None);
    }
}
