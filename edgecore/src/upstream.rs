//! The way of MetaServer to the API server.

use metaserver::upstream::{CutOff, Opening, Upstream};
use tokio::sync::watch;

/// No stream is opened through the session yet: to MetaServer, the node is cut off. It serves what the node holds, and
/// refuses the rest.
pub(crate) struct NoWay {
    connected: watch::Sender<bool>,
}

impl NoWay {
    pub(crate) fn new() -> NoWay {
        NoWay { connected: watch::Sender::new(false) }
    }
}

impl Upstream for NoWay {
    fn open(&self) -> Opening<'_> {
        Box::pin(std::future::ready(Err(CutOff)))
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }
}
