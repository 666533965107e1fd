//! Streams to the API server, through the session: whoever serves the Kubernetes API on this node asks here for one per request.

use std::time::Duration;

use metamanager::LinkState;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot, watch};

/// How long a session may take to open a stream: it is written when the session has nothing else to write.
const OPENS: Duration = Duration::from_secs(10);
/// Who may wait for a stream.
const WAITING: usize = 64;

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStream {
    #[error("no link to the cloud")]
    Disconnected,
    #[error("the cloud takes no streams of nodes: it is KubeEdge's, or its modules.dynamicController is off")]
    Unable,
    #[error("too many API requests of this node are under way")]
    TooMany,
    #[error("the link did not open a stream within {OPENS:?}")]
    Late,
}

/// Who waits for a stream.
pub struct Asked(oneshot::Sender<Result<DuplexStream, NoStream>>);

impl Asked {
    pub(crate) fn answer(self, stream: Result<DuplexStream, NoStream>) {
        // Who asked may have gone: the stream ends with its pipe.
        let _ = self.0.send(stream);
    }
}

/// Opens streams. Clones share the inbox of EdgeHub.
#[derive(Clone)]
pub struct Uplink {
    asked: mpsc::Sender<Asked>,
    link: watch::Receiver<LinkState>,
}

impl Uplink {
    /// The handle, and the inbox that EdgeHub serves.
    pub fn channel(link: watch::Receiver<LinkState>) -> (Uplink, mpsc::Receiver<Asked>) {
        let (asked, inbox) = mpsc::channel(WAITING);
        (Uplink { asked, link }, inbox)
    }

    /// A stream for one HTTP/1.1 connection to the API server.
    ///
    /// # Errors
    /// [`NoStream`], at once while there is no link.
    pub async fn open(&self) -> Result<DuplexStream, NoStream> {
        if *self.link.borrow() == LinkState::Disconnected {
            return Err(NoStream::Disconnected);
        }
        let (answer, opened) = oneshot::channel();
        let exchange = async {
            self.asked.send(Asked(answer)).await.map_err(|_| NoStream::Disconnected)?;
            opened.await.unwrap_or(Err(NoStream::Disconnected))
        };
        tokio::time::timeout(OPENS, exchange).await.unwrap_or(Err(NoStream::Late))
    }

    /// The state of the link, to be watched.
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }
}
