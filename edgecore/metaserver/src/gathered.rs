//! What MetaServer knows for filters and for the environment of pods; `gathering` fills it.

use std::collections::BTreeMap;
use std::sync::Arc;

use metamanager::KnownServices;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::filters::facts::{Facts, Place};

/// The facts, and what they are remembered from.
pub(crate) struct Gathered {
    pub facts: watch::Sender<Arc<Facts>>,
    /// Readiness of pods that was told, until when it counts while the node is connected.
    pub told: Mutex<BTreeMap<Place, (bool, Instant)>>,
    /// For the environment of pods.
    pub services: watch::Sender<KnownServices>,
}

impl Gathered {
    pub(crate) fn new(services: watch::Sender<KnownServices>) -> Gathered {
        Gathered { facts: watch::Sender::new(Arc::default()), told: Mutex::default(), services }
    }
}
