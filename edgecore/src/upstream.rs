//! The way of MetaServer to the API server: streams of the session with the cloud, or messages to a cloud that takes none.

use std::sync::atomic::{AtomicBool, Ordering};

use edgehub::{NoStream, Uplink};
use metamanager::LinkState;
use metaserver::upstream::{CutOff, Io, Opening, Upstream};
use tokio::sync::watch;

use crate::applications::Applications;

pub(crate) struct Way {
    uplink: Uplink,
    /// For a cloud that takes no streams.
    applications: Applications,
    connected: watch::Receiver<bool>,
    /// It is known that this cloud takes none.
    is_told: AtomicBool,
}

impl Way {
    /// Follows the link for as long as `uplink` is told of it; has to be made within a runtime.
    pub(crate) fn new(uplink: Uplink, applications: Applications) -> Way {
        let mut link = uplink.link();
        let (tell, connected) = watch::channel(*link.borrow_and_update() == LinkState::Connected);
        tokio::spawn(async move {
            while link.changed().await.is_ok() {
                tell.send_replace(*link.borrow_and_update() == LinkState::Connected);
            }
        });
        Way { uplink, applications, connected, is_told: AtomicBool::new(false) }
    }
}

impl Upstream for Way {
    fn open(&self) -> Opening<'_> {
        Box::pin(async {
            match self.uplink.open().await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Io>),
                Err(NoStream::Unable) => {
                    if !self.is_told.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            error = %NoStream::Unable,
                            "MetaServer asks it by messages, for the node itself"
                        );
                    }
                    Ok(Box::new(self.applications.connect()) as Box<dyn Io>)
                }
                Err(_) => Err(CutOff),
            }
        })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}
