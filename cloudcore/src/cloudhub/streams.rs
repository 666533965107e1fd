//! Where other rooms ask a node's session for a stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{Notify, oneshot};

/// How long a session may take to open a stream: it is written when the session has nothing else to write.
pub(super) const OPENS: Duration = Duration::from_secs(10);

/// Why a node's session opens no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStream {
    #[error("the node is not connected to this CloudCore")]
    Away,
    #[error("the node's edge takes no streams: it speaks KubeEdge's dialect, or serves no Node API")]
    Unable,
    #[error("too many streams to the node are open")]
    TooMany,
    #[error("the node's session did not open a stream within {OPENS:?}")]
    Late,
}

/// One session's door.
#[derive(Clone, Default)]
pub struct StreamDoor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    asked: VecDeque<Asked>,
    is_closed: bool,
}

/// Someone waits for a stream.
pub struct Asked(oneshot::Sender<Result<DuplexStream, NoStream>>);

impl Asked {
    pub(super) fn answer(self, stream: Result<DuplexStream, NoStream>) {
        // Who asked may have gone: the stream ends with its pipe.
        let _ = self.0.send(stream);
    }
}

impl tunnel::Asked for Asked {
    fn answer(self, pipe: Option<DuplexStream>) {
        Asked::answer(self, pipe.ok_or(NoStream::TooMany));
    }
}

impl StreamDoor {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream to the node's Node API.
    ///
    /// # Errors
    /// [`NoStream`]: the session has ended, its edge takes none, there are too many, or it is too busy.
    pub async fn open(&self) -> Result<DuplexStream, NoStream> {
        let (ask, answer) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.is_closed {
                return Err(NoStream::Away);
            }
            waiting.asked.push_back(Asked(ask));
        }
        self.0.came.notify_one();
        match tokio::time::timeout(OPENS, answer).await {
            Err(_) => Err(NoStream::Late),
            Ok(Err(_)) => Err(NoStream::Away),
            Ok(Ok(answer)) => answer,
        }
    }

    /// The next who asks. Cancel safe.
    pub async fn next(&self) -> Asked {
        loop {
            if let Some(asked) = self.lock().asked.pop_front() {
                return asked;
            }
            self.0.came.notified().await;
        }
    }

    /// True if both are doors of one session.
    pub fn is(&self, other: &StreamDoor) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The session has ended.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_gets_a_stream_or_hears_why_not() {
        let door = StreamDoor::default();
        let serve = async {
            door.next().await.answer(Ok(tokio::io::duplex(1).0));
            door.next().await.answer(Err(NoStream::Unable));
        };
        let ask = async { (door.open().await.is_ok(), door.open().await.err()) };
        let ((), asked) = tokio::join!(serve, ask);
        assert_eq!(asked, (true, Some(NoStream::Unable)));
        assert_eq!(door.open().await.err(), Some(NoStream::Late));
        door.close();
        assert_eq!(door.open().await.err(), Some(NoStream::Away));
    }
}
