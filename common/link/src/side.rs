//! Streams beside the frames of a connection: QUIC streams of their own, so that none waits for what another lost on its way.
//! The cloud opens them; the edge accepts them once it has said that it does.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::VarInt;

/// Bytes a peer may send ahead of the reader, in each stream.
pub(crate) const WINDOW: u32 = 512 * 1024;
/// So many at once: each end may hold [`WINDOW`] bytes of each. More go as frames.
pub(crate) const SIDE_STREAMS: u32 = 32;
/// Frames go first.
const PRIORITY: i32 = -1;
/// Ends a stream that did not come to its end.
const CODE_BROKEN: VarInt = VarInt::from_u32(1);

/// Where streams beside the frames of a connection are opened and accepted.
#[derive(Clone)]
pub struct SideStreams {
    connection: quinn::Connection,
    open: Arc<Mutex<u32>>,
}

impl SideStreams {
    pub(crate) fn of(connection: quinn::Connection) -> SideStreams {
        SideStreams { connection, open: Arc::default() }
    }

    /// A place for one more stream; `None`: so many are open that this one has to go as frames.
    pub fn place(&self) -> Option<Place> {
        let mut open = self.count();
        (*open < SIDE_STREAMS).then(|| self.take(&mut open))
    }

    fn count(&self) -> MutexGuard<'_, u32> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, open: &mut u32) -> Place {
        *open += 1;
        self.make_room(*open);
        Place(self.clone())
    }

    /// What lies unread in streams must not take the room of the frames. quinn tells its peer of room that became free when it is an
    /// eighth of all: with less than that beside full streams, nothing would move again.
    fn make_room(&self, open: u32) {
        let streams = WINDOW / 7 * 8 * open;
        self.connection.set_receive_window(VarInt::from_u32(WINDOW + streams));
    }

    /// The cloud opens a stream. The edge hears of it with the first bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn open(&self, place: Place) -> io::Result<SideStream> {
        let (send, receive) = self.connection.open_bi().await?;
        // A stream that has just ended has no priority.
        let _ = send.set_priority(PRIORITY);
        Ok(SideStream { send, receive, _place: place })
    }

    /// The edge takes the next stream that the cloud opens; the transport lets only so many be open. Cancel safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn accept(&self) -> io::Result<SideStream> {
        let (send, receive) = self.connection.accept_bi().await?;
        let _ = send.set_priority(PRIORITY);
        let place = self.take(&mut self.count());
        Ok(SideStream { send, receive, _place: place })
    }
}

/// One of the streams that may be open at once.
pub struct Place(SideStreams);

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.0.count();
        *open = open.saturating_sub(1);
        self.0.make_room(*open);
    }
}

/// One stream, both ways.
pub struct SideStream {
    /// What goes out; [finishing](tokio::io::AsyncWriteExt::shutdown) it is its end.
    pub send: quinn::SendStream,
    /// What comes in.
    pub receive: quinn::RecvStream,
    _place: Place,
}

impl SideStream {
    /// The stream did not come to its end: the other end is told so.
    pub fn abort(mut self) {
        // Either way may have ended already.
        let _ = self.send.reset(CODE_BROKEN);
        let _ = self.receive.stop(CODE_BROKEN);
    }
}
