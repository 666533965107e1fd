//! The cloud's half of the native dialect, without sockets and clock: frames in, effects out. Pure.
//!
//! ```text
//! [greeting] --Hello--> all digests equal ----------------------+
//!      |                                                        v
//!      +------ some differ: Compare --> [comparing] --last--> [streaming] --all acknowledged--> InStep, once
//! ```

use message::{Message, ObjectKey, Upstream};
use native::Envelopes;
use native::frames::frame::Body;
use native::frames::{
    Change, Compare, Done, Envelope, Hello, InStep, Inventory, Objects, Stored, Submit, Welcome, change,
};
use tokio::time::Instant;

use super::uplog::UpLog;
use crate::desired::{Desired, Outgoing, Window};

/// The node broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the node sent a frame that only a cloud sends")]
    WrongWay,
    #[error("the node sent a frame before its hello or a second hello")]
    OutOfTurn,
    #[error("the node sent rows without waiting for answers")]
    Flood,
    #[error("the node sent an envelope that is not a message")]
    Envelope,
    #[error("the node holds something without a readable name")]
    Held,
}

/// What the session has to do.
#[derive(Debug)]
pub enum Effect {
    Send(Body),
    /// A live request to answer, and the bytes it holds.
    Answer(Box<Message>, usize),
    /// The comparison is over: what the node holds and nobody wants may have to go.
    Compared,
    /// The node could not store a sending.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Comparing,
    Streaming,
}

/// A row of the node's outbox.
#[derive(Debug)]
pub struct Submitted {
    /// Its sequence in the node's database.
    pub seq: u64,
    pub message: Box<Message>,
    /// What it says; `None` if nobody can read it.
    pub upstream: Option<Box<Upstream>>,
    /// Bytes of its text.
    pub bytes: usize,
}

/// One session's state.
#[derive(Debug)]
pub struct Exchange {
    phase: Phase,
    epoch: u64,
    /// Identity of the node's database.
    pub store: String,
    /// How often the node promises a sign of life, in seconds.
    pub heartbeat: u32,
    /// Rows of the node's outbox.
    pub rows: UpLog<Submitted>,
    /// Bytes of rows that are not carried out yet.
    held: usize,
    calls: Envelopes,
    answers: Envelopes,
    /// The node waits to hear that it has everything.
    owes_in_step: bool,
    /// This end connects streams that the node opens.
    pub connects_streams: bool,
    /// The node connects streams.
    pub takes_streams: bool,
    /// The edge accepts streams beside the frames.
    pub takes_side_streams: bool,
}

impl Exchange {
    pub fn new(epoch: u64) -> Exchange {
        Exchange {
            phase: Phase::Greeting,
            epoch,
            store: String::new(),
            heartbeat: 0,
            rows: UpLog::default(),
            held: 0,
            calls: Envelopes::default(),
            answers: Envelopes::default(),
            owes_in_step: false,
            connects_streams: false,
            takes_streams: false,
            takes_side_streams: false,
        }
    }

    /// Takes in a frame.
    pub fn on_frame(&mut self, body: Body, desired: &mut Desired) -> Result<Vec<Effect>, Violation> {
        match (body, self.phase) {
            (Body::Hello(hello), Phase::Greeting) => Ok(self.on_hello(hello, desired)),
            (Body::Hello(_), _) | (_, Phase::Greeting) => Err(Violation::OutOfTurn),
            (Body::Inventory(inventory), Phase::Comparing) => self.on_inventory(inventory, desired),
            (Body::Inventory(_), Phase::Streaming) => Err(Violation::OutOfTurn),
            (Body::Stored(stored), _) => Ok(on_stored(&stored, desired)),
            (Body::Submit(submit), _) => self.on_submit(submit),
            (Body::Call(envelope), _) => {
                let text = self.calls.unpack(envelope).map_err(|_| Violation::Envelope)?;
                let message = message::decode(text.as_bytes()).map_err(|_| Violation::Envelope)?;
                Ok(vec![Effect::Answer(Box::new(message), text.len())])
            }
            _ => Err(Violation::WrongWay),
        }
    }

    fn on_hello(&mut self, hello: Hello, desired: &mut Desired) -> Vec<Effect> {
        self.store = hello.store.chars().take(64).collect();
        self.heartbeat = hello.heartbeat_seconds;
        self.owes_in_step = hello.wants_in_step;
        self.takes_streams = hello.takes_streams;
        self.takes_side_streams = hello.takes_side_streams;
        let kinds = desired.compare(&hello.digests);
        let mut effects = vec![Effect::Send(Body::Welcome(Welcome {
            epoch: self.epoch,
            takes_streams: self.connects_streams,
        }))];
        if kinds.is_empty() {
            self.phase = Phase::Streaming;
            effects.push(Effect::Compared);
        } else {
            self.phase = Phase::Comparing;
            effects.push(Effect::Send(Body::Compare(Compare { kinds })));
        }
        effects
    }

    fn on_inventory(
        &mut self,
        inventory: Inventory,
        desired: &mut Desired,
    ) -> Result<Vec<Effect>, Violation> {
        for held in &inventory.held {
            let key = ObjectKey::parse(&held.resource).map_err(|_| Violation::Held)?;
            desired.held(held, key);
        }
        if !inventory.last {
            return Ok(Vec::new());
        }
        self.phase = Phase::Streaming;
        Ok(vec![Effect::Compared])
    }

    fn on_submit(&mut self, submit: Submit) -> Result<Vec<Effect>, Violation> {
        for row in submit.rows {
            let message = message::decode(&row.envelope).map_err(|_| Violation::Envelope)?;
            // What nobody can read is done at once: the node must not keep it for ever.
            let upstream = Upstream::parse(&message).ok().map(Box::new);
            let key = upstream.as_ref().map(|upstream| upstream.order_key()).unwrap_or_default();
            let bytes = row.envelope.len();
            self.held += bytes;
            let submitted = Submitted { seq: row.seq, message: Box::new(message), upstream, bytes };
            if !self.rows.receive(self.rows.newest() + 1, key, submitted) {
                return Err(Violation::Flood);
            }
        }
        Ok(Vec::new())
    }

    /// Bytes of rows that are not carried out yet.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The row at `place`, of so many bytes, is carried out.
    pub fn finish(&mut self, place: u64, bytes: usize) {
        self.rows.finish(place);
        self.held = self.held.saturating_sub(bytes);
    }

    /// The next batch of objects, once it is known what the node holds.
    pub fn objects(&mut self, desired: &mut Desired, now: Instant) -> Option<Body> {
        if self.phase != Phase::Streaming {
            return None;
        }
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while bytes < native::BATCH_BYTES {
            let Some(outgoing) = desired.next(Window::NATIVE, now) else { break };
            let change = change(outgoing);
            bytes += length(&change);
            changes.push(change);
        }
        (!changes.is_empty()).then_some(Body::Objects(Objects { changes }))
    }

    /// Tells the node, once, that it has everything: all is acknowledged.
    pub fn in_step(&mut self, desired: &Desired) -> Option<Body> {
        let is_so = self.owes_in_step && self.phase == Phase::Streaming && desired.is_settled();
        is_so.then(|| {
            self.owes_in_step = false;
            Body::InStep(InStep {})
        })
    }

    /// The frame that answers a call; frames are sent in the order they are made.
    pub fn answer(&mut self, message: &Message) -> Body {
        Body::Answer(self.answers.pack(text(message)))
    }

    /// What the node may forget since it was told last.
    pub fn done(&mut self) -> Option<Body> {
        let progress = self.rows.progress()?;
        Some(Body::Done(Done { through: progress.through, also: progress.also }))
    }
}

fn on_stored(stored: &Stored, desired: &mut Desired) -> Vec<Effect> {
    let mut effects = Vec::new();
    for failed in &stored.failed {
        desired.failed(failed.ticket);
        if !failed.base_missing {
            effects.push(Effect::Refused(failed.reason.chars().take(256).collect()));
        }
    }
    desired.acked_through(stored.through);
    effects
}

/// The frame of a message nobody asked for.
pub fn notice(message: &Message) -> Body {
    Body::Notice(Envelope { json: text(message).into_bytes(), delta: None })
}

fn text(message: &Message) -> String {
    let mut json = message::encode(message);
    json.pop(); // the newline
    json
}

fn change(outgoing: Outgoing) -> Change {
    use message::Downstream;
    let mut change = Change { ticket: outgoing.ticket, mark: outgoing.mark, ..Change::default() };
    match outgoing.body {
        Downstream::Put { key, origin, version, object, first } => {
            change.resource = key.to_string();
            change.source = origin.as_str().to_owned();
            change.version = version.0;
            change.first = first;
            let delta = outgoing.base.and_then(|base| native::difference(base.text(), object.text()));
            change.body = Some(match delta {
                Some(delta) => change::Body::Delta(delta),
                None => change::Body::Full(object.text().as_bytes().to_vec()),
            });
        }
        Downstream::Remove { key, origin, uid, .. } => {
            change.resource = key.to_string();
            change.source = origin.as_str().to_owned();
            change.uid = uid.unwrap_or_default();
            change.body = Some(change::Body::Removed(true));
        }
        // The desired set makes nothing else.
        _ => {}
    }
    change
}

fn length(change: &Change) -> usize {
    match &change.body {
        Some(change::Body::Full(text)) => text.len(),
        Some(change::Body::Delta(delta)) => delta.patch.len(),
        _ => 64,
    }
}
