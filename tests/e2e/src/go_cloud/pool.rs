//! Messages in acknowledged mode on their way to one node, as KubeEdge's CloudHub keeps them (docs/protocol/transport.md 3.4; its
//! message dispatcher and node session): one per uid, the newest. An answer that comes while another one for the same
//! object waits takes its place, so whoever asked first hears nothing.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// The hub records each acknowledgement at the API server (two requests) before it takes the next message.
const RECORDING: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Pool {
    /// (uid, message), oldest uid first.
    waiting: Vec<(String, Value)>,
    /// Id of the message that is not acknowledged yet. There is one at a time.
    under_way: Option<String>,
    /// The hub is busy until then.
    busy_until: Option<Instant>,
}

impl Pool {
    /// Keeps a message until its turn, in the place of another of the same object.
    pub(super) fn hold(&mut self, message: Value) {
        let uid = message["content"]["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        match self.waiting.iter_mut().find(|(waits, _)| *waits == uid) {
            Some((_, place)) => *place = message,
            None => self.waiting.push((uid, message)),
        }
    }

    /// When the next message may be sent; none while nothing waits or one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        let may_send = self.under_way.is_none() && !self.waiting.is_empty();
        may_send.then(|| self.busy_until.unwrap_or_else(Instant::now))
    }

    /// The next message, which is under way from now on.
    pub(super) fn take(&mut self) -> Option<Value> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        let (_, message) = self.waiting.remove(0);
        self.sent(&message);
        Some(message)
    }

    /// A message was sent whose acknowledgement is awaited.
    pub(super) fn sent(&mut self, message: &Value) {
        self.under_way = message["header"]["msg_id"].as_str().map(str::to_owned);
    }

    /// Any answer will do, also a complaint.
    pub(super) fn acknowledged(&mut self, id: &str) {
        if self.under_way.as_deref() == Some(id) {
            self.under_way = None;
            self.busy_until = Some(Instant::now() + RECORDING);
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// True if nothing waits and everything sent is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }
}
