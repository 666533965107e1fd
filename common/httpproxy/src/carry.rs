//! Bytes both ways between two connections that were upgraded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::pings::{Framing, Pings};

/// Bytes that are read at once: few where somebody types, many where files are copied.
const BUFFER: (usize, usize) = (4 * 1024, 32 * 1024);
/// When one side has said all, the other may still say this long what is under way.
const LINGER: Duration = Duration::from_secs(10);

/// A server that has said nothing for so long has nothing waiting to be read.
const QUIET: Duration = Duration::from_millis(100);

/// Copies both ways until one side ends, or nothing has moved for `idle`.
///
/// A connection that is closed while something of it is unread is reset, and takes with it what its other end has not read yet:
/// so what a client says after the server's end is read, for nobody, until the client has seen that end.
pub async fn carry(client: Upgraded, server: impl AsyncRead + AsyncWrite, idle: Duration) {
    framed(client, server, idle, Framing::Unknown).await;
}

/// The same, of a client whose pings are told by `framing`: they reach the server only while it has nothing to say.
pub(crate) async fn framed(
    client: Upgraded,
    server: impl AsyncRead + AsyncWrite,
    idle: Duration,
    framing: Framing,
) {
    let moved = Arc::new(Moved::new());
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_server, to_server) = tokio::io::split(server);
    let back = back(from_server, to_client, &moved);
    let forth = forth(from_client, to_server, &moved, framing);
    tokio::pin!(back, forth);
    tokio::select! {
        () = &mut back => {
            let _ = tokio::time::timeout(LINGER, forth).await;
        }
        () = moved.rested(idle) => {}
        () = &mut forth => {
            let _ = tokio::time::timeout(LINGER, back).await;
        }
    }
}

/// When bytes moved last, and since when the server is waited for; in milliseconds after the beginning.
struct Moved {
    began: Instant,
    last: AtomicU64,
    /// [`u64::MAX`]: what it said is being written.
    waiting_since: AtomicU64,
}

impl Moved {
    fn new() -> Moved {
        Moved { began: Instant::now(), last: AtomicU64::new(0), waiting_since: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn wait(&self) {
        self.waiting_since.store(self.now(), Ordering::Relaxed);
    }

    fn heard(&self) {
        self.waiting_since.store(u64::MAX, Ordering::Relaxed);
        self.note();
    }

    /// Resolves when nothing has moved for `idle`.
    async fn rested(&self, idle: Duration) {
        loop {
            let due = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// Resolves when the server has been silent for [`QUIET`].
    async fn quiet(&self) {
        loop {
            match self.waiting_since.load(Ordering::Relaxed) {
                u64::MAX => tokio::time::sleep(QUIET).await,
                since => {
                    let due = self.began + Duration::from_millis(since) + QUIET;
                    if due <= Instant::now() {
                        return;
                    }
                    tokio::time::sleep_until(due).await;
                }
            }
        }
    }
}

/// From the server to the client.
async fn back(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &Moved) {
    let (mut buffer, mut writer) = (Buffer::new(), Writer::default());
    loop {
        moved.wait();
        let Ok(count @ 1..) = from.read(&mut buffer.0).await else { break };
        moved.heard();
        writer.write(&mut to, buffer.read(count)).await;
        buffer.fit(count);
        moved.note();
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// From the client to the server.
async fn forth(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Moved,
    framing: Framing,
) {
    let (mut buffer, mut writer, mut pings) = (Buffer::new(), Writer::default(), Pings::new(framing));
    loop {
        let onward = tokio::select! {
            read = from.read(&mut buffer.0) => {
                let Ok(count @ 1..) = read else { break };
                let onward = pings.feed(buffer.read(count));
                buffer.fit(count);
                onward
            }
            () = moved.quiet(), if pings.may_go() => pings.take().unwrap_or_default(),
        };
        moved.note();
        if !onward.is_empty() {
            writer.write(&mut to, &onward).await;
            moved.note();
        }
    }
    let _ = to.shutdown().await;
}

/// Grows with what is read at once.
struct Buffer(Vec<u8>);

impl Buffer {
    fn new() -> Buffer {
        Buffer(vec![0; BUFFER.0])
    }

    /// What was read.
    fn read(&self, count: usize) -> &[u8] {
        self.0.get(..count).unwrap_or_default()
    }

    /// So much was read: where it was as much as there was room for, there is more to come.
    fn fit(&mut self, count: usize) {
        if count == self.0.len() && count < BUFFER.1 {
            self.0 = vec![0; count * 2];
        }
    }
}

/// Writes as long as anybody takes it.
#[derive(Default)]
struct Writer {
    is_refused: bool,
}

impl Writer {
    async fn write(&mut self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        if !self.is_refused {
            self.is_refused = to.write_all(bytes).await.is_err() || to.flush().await.is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_rests_only_when_nothing_moved_for_the_whole_time() {
        let idle = Duration::from_secs(100);
        let moved = Arc::new(Moved::new());
        let began = Instant::now();
        let (other, noting) = (moved.clone(), async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            moved.note();
        });
        tokio::join!(other.rested(idle), noting);
        assert_eq!(began.elapsed(), Duration::from_secs(160));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_waits_until_the_server_is_silent() {
        let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
        let moved = Moved::new();
        let (mut client, from_client) = tokio::io::duplex(64);
        let (mut server, to_server) = tokio::io::duplex(64);
        moved.heard();
        let began = Instant::now();
        let silence = async {
            client.write_all(&ping).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            moved.wait();
            let mut read = [0; 12];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(read, ping);
            drop(client);
        };
        tokio::join!(silence, forth(from_client, to_server, &moved, Framing::Spdy));
        assert!(began.elapsed() >= Duration::from_secs(60) + QUIET, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_nobody_takes_is_read_all_the_same() {
        let (mut near, far) = tokio::io::duplex(64);
        let (gone, to_nobody) = tokio::io::duplex(64);
        drop(gone);
        let moved = Moved::new();
        let write = async {
            near.write_all(&[7; 1000]).await.unwrap();
            drop(near);
        };
        tokio::join!(write, forth(far, to_nobody, &moved, Framing::Unknown));
    }

    #[tokio::test]
    async fn bytes_are_copied_to_the_end_and_the_end_is_passed_on() {
        let (mut near, far) = tokio::io::duplex(64);
        let (near_out, mut far_out) = tokio::io::duplex(64);
        let moved = Moved::new();
        let write = async {
            near.write_all(&[7; 1000]).await.unwrap();
            drop(near);
        };
        let read = async {
            let mut all = Vec::new();
            far_out.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), (), all) = tokio::join!(write, back(far, near_out, &moved), read);
        assert_eq!(all, [7; 1000]);
    }
}
