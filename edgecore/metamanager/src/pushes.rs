//! Objects that a KubeEdge cloud sends, to whoever watches here (docs/protocol/transport.md 1.9).

use std::sync::Arc;

use message::{Json, ObjectKey};
use tokio::sync::broadcast;

/// One object as it came.
#[derive(Debug)]
pub struct Pushed {
    pub key: ObjectKey,
    /// As it is now; of one that is gone, as it was, or what names it.
    pub object: Json,
    pub is_gone: bool,
}

/// Objects that a reader may have waiting, each as large as a message; one that falls behind has to list.
const WAITING: usize = 64;

/// Handle. Clones share the readers.
#[derive(Clone)]
pub struct Pushes(broadcast::Sender<Arc<Pushed>>);

impl Default for Pushes {
    fn default() -> Pushes {
        Pushes(broadcast::Sender::new(WAITING))
    }
}

impl Pushes {
    /// What comes from now on, in the order in which it came.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Pushed>> {
        self.0.subscribe()
    }

    pub fn tell(&self, pushed: Pushed) {
        // Nobody may be watching.
        let _ = self.0.send(Arc::new(pushed));
    }
}
