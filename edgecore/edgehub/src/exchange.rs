//! The edge's half of the native dialect, without sockets, clock and disk: frames in, effects out. Pure.
//!
//! ```text
//! hello() --> Welcome [--> Compare --> listed()] --> Objects --> committed() ... --> InStep
//! rows()  --> Submit  --> Done --> finished rows
//! ```

use std::collections::BTreeMap;

use message::{Downstream, Json, Message, ObjectKey, Received, ResourceVersion};
use native::Envelopes;
use native::frames::frame::Body;
use native::frames::{
    Change, Done, Failed, Held, Hello, Inventory, KindDigest, Row, Stored, StreamFrame, Submit, change,
};

use metamanager::objects::{Arrival, Body as ArrivalBody};
use metamanager::outbox::{Cursors, Room, Waiting};

/// Rows that may wait for the cloud's answer at once.
const ROWS: usize = 256;
/// Of these, rows that are not states: a status always finds room.
const OTHERS: usize = 192;
/// Bytes of rows that may wait for the cloud's answer at once: half of what the cloud reads of a node before it carries
/// out something.
const BYTES: usize = 256 * 1024;
/// Bytes that the differences of one frame may make.
const MADE: usize = 2 * native::MAX_FRAME_BYTES;
/// Entries of one inventory frame.
const HELD: usize = 500;

/// The cloud broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the cloud sent a frame that only an edge sends")]
    WrongWay,
    #[error("the cloud sent an object without a readable name or text")]
    Change,
    #[error("the cloud sent differences that make more than {MADE} bytes at once")]
    TooMuch,
    #[error("the cloud sent an envelope that is not a message")]
    Envelope,
}

/// What the session has to do.
#[derive(Debug)]
pub enum Effect {
    /// The cloud let this session in.
    Welcomed { epoch: u64, takes_streams: bool },
    /// List what is held of these kinds, then call [`listed`].
    List(Vec<String>),
    /// Commit, then call [`committed`].
    Commit(Vec<Ticketed>),
    /// Remove these rows of the outbox.
    Finished(Vec<i64>),
    /// An answer to a live request, or a notice.
    Deliver(Box<Received>),
    /// Everything this node should have is committed.
    InStep,
    /// A part of a stream.
    Stream(StreamFrame),
}

/// A change and what the cloud calls its sending.
#[derive(Clone, Debug)]
pub struct Ticketed {
    pub ticket: u64,
    pub arrival: Arrival,
}

#[derive(Debug)]
struct Sent {
    seq: i64,
    bytes: usize,
    state: bool,
}

/// One session's state.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Rows sent and not answered, by their place in this session.
    sent: BTreeMap<u64, Sent>,
    /// Place of the row sent last.
    places: u64,
    bytes: usize,
    others: usize,
    calls: Envelopes,
    answers: Envelopes,
    /// Rows up to these were sent.
    pub cursors: Cursors,
}

/// The first frame. `takes_streams`: this edge connects streams.
pub fn hello(store: String, heartbeat_seconds: u32, digests: Vec<KindDigest>, streams: TakesStreams) -> Body {
    Body::Hello(Hello {
        store,
        heartbeat_seconds,
        digests,
        wants_in_step: true,
        takes_streams: streams != TakesStreams::None,
        takes_side_streams: streams == TakesStreams::Beside,
    })
}

/// Where the cloud may open streams to the Node API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesStreams {
    /// There is no Node API.
    None,
    /// Among the frames.
    Frames,
    /// Beside them as well.
    Beside,
}

/// The frames that tell what is held.
pub fn listed(held: Vec<Held>) -> Vec<Body> {
    let mut frames = Vec::new();
    let mut held = held.into_iter().peekable();
    loop {
        let part: Vec<Held> = held.by_ref().take(HELD).collect();
        let last = held.peek().is_none();
        frames.push(Body::Inventory(Inventory { held: part, last }));
        if last {
            return frames;
        }
    }
}

/// The frame that tells how a commit ended: `through` is its last ticket.
pub fn committed(through: u64, failed: Vec<Failed>) -> Body {
    Body::Stored(Stored { through, failed })
}

impl Exchange {
    /// Rows that may be sent now.
    pub fn room(&self) -> Room {
        let states = if self.bytes >= BYTES { 0 } else { ROWS.saturating_sub(self.sent.len()) };
        Room { states, others: states.min(OTHERS.saturating_sub(self.others)) }
    }

    /// Frames with rows to send. Rows that are no states leave room for those that are; what does not fit stays.
    pub fn rows(&mut self, rows: Vec<Waiting>) -> Vec<Body> {
        let (mut frames, mut batch, mut size) = (Vec::new(), Vec::new(), 0);
        for row in rows {
            let Waiting { seq, state, mut message } = row;
            let room = self.room();
            if (if state { room.states } else { room.others }) == 0 {
                break;
            }
            // The sequence names it.
            message.header.msg_id = Default::default();
            let envelope = trimmed(&message).into_bytes();
            self.places += 1;
            self.sent.insert(self.places, Sent { seq, bytes: envelope.len(), state });
            self.bytes += envelope.len();
            size += envelope.len();
            if state {
                self.cursors.states = self.cursors.states.max(seq);
            } else {
                self.others += 1;
                self.cursors.others = self.cursors.others.max(seq);
            }
            batch.push(Row { seq: seq as u64, envelope });
            if size >= native::BATCH_BYTES {
                frames.push(Body::Submit(Submit { rows: std::mem::take(&mut batch) }));
                size = 0;
            }
        }
        if !batch.is_empty() {
            frames.push(Body::Submit(Submit { rows: batch }));
        }
        frames
    }

    /// The frame of a live request; frames are sent in the order they are made.
    pub fn call(&mut self, message: &Message) -> Body {
        Body::Call(self.calls.pack(trimmed(message)))
    }

    /// Takes in a frame.
    pub fn on_frame(&mut self, body: Body) -> Result<Effect, Violation> {
        match body {
            Body::Welcome(welcome) => {
                Ok(Effect::Welcomed { epoch: welcome.epoch, takes_streams: welcome.takes_streams })
            }
            Body::Compare(compare) => Ok(Effect::List(compare.kinds)),
            Body::Objects(objects) => {
                // A small difference may make a large object; the cloud keeps to a window far below this.
                if objects.changes.iter().map(made).sum::<usize>() > MADE {
                    return Err(Violation::TooMuch);
                }
                objects.changes.into_iter().map(ticketed).collect::<Result<_, _>>().map(Effect::Commit)
            }
            Body::InStep(_) => Ok(Effect::InStep),
            Body::Done(done) => Ok(Effect::Finished(self.finish(&done))),
            Body::Answer(envelope) => {
                let text = self.answers.unpack(envelope).map_err(|_| Violation::Envelope)?;
                deliver(text.as_bytes())
            }
            Body::Notice(envelope) => deliver(&envelope.json),
            Body::Stream(frame) => Ok(Effect::Stream(frame)),
            _ => Err(Violation::WrongWay),
        }
    }

    fn finish(&mut self, done: &Done) -> Vec<i64> {
        let mut places: Vec<u64> = self.sent.range(..=done.through).map(|(place, _)| *place).collect();
        places.extend(&done.also);
        places.into_iter().filter_map(|place| self.land(place)).collect()
    }

    fn land(&mut self, place: u64) -> Option<i64> {
        let Sent { seq, bytes, state } = self.sent.remove(&place)?;
        self.bytes -= bytes;
        self.others -= usize::from(!state);
        Some(seq)
    }
}

fn trimmed(message: &Message) -> String {
    let mut json = message::encode(message);
    json.pop(); // the newline
    json
}

fn deliver(json: &[u8]) -> Result<Effect, Violation> {
    let message = message::decode(json).map_err(|_| Violation::Envelope)?;
    let received = Received::parse(message).map_err(|_| Violation::Envelope)?;
    match received.body {
        Downstream::Put { .. } | Downstream::Remove { .. } => Err(Violation::Envelope),
        _ => Ok(Effect::Deliver(Box::new(received))),
    }
}

/// Bytes a difference makes.
fn made(change: &Change) -> usize {
    match &change.body {
        Some(change::Body::Delta(delta)) => delta.size as usize,
        _ => 0,
    }
}

fn ticketed(change: Change) -> Result<Ticketed, Violation> {
    let key = ObjectKey::parse(&change.resource).map_err(|_| Violation::Change)?;
    let version = ResourceVersion(change.version);
    let body = match change.body.ok_or(Violation::Change)? {
        change::Body::Full(text) => {
            let text = String::from_utf8(text).map_err(|_| Violation::Change)?;
            let object = Json::from_text(text).map_err(|_| Violation::Change)?;
            ArrivalBody::Put { version, object }
        }
        change::Body::Delta(delta) => ArrivalBody::Differ { version, delta },
        change::Body::Removed(_) => {
            ArrivalBody::Remove { uid: Some(change.uid).filter(|uid| !uid.is_empty()) }
        }
    };
    Ok(Ticketed { ticket: change.ticket, arrival: Arrival { key, mark: change.mark, body } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::{Request, Upstream};

    fn state(seq: i64) -> Waiting {
        let request =
            Request::PatchPodStatus { namespace: "d".into(), name: seq.to_string(), patch: "{}".into() };
        Waiting { seq, state: true, message: Upstream::Ask(request).to_message(0) }
    }

    fn report(seq: i64) -> Waiting {
        let report = Upstream::TwinReport { namespace: "d".into(), name: "t".into(), report: Json::null() };
        Waiting { seq, state: false, message: report.to_message(0) }
    }

    fn finished(exchange: &mut Exchange, through: u64, also: &[u64]) -> Vec<i64> {
        match exchange.on_frame(Body::Done(Done { through, also: also.to_vec() })).unwrap() {
            Effect::Finished(seqs) => seqs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_finishes_only_rows_that_were_sent() {
        let mut exchange = Exchange::default();
        // The state goes before the older report; an answer counts rows as they were sent.
        exchange.rows(vec![state(3)]);
        exchange.rows(vec![report(1)]);
        assert_eq!(finished(&mut exchange, 1, &[9]), [3]);
        assert_eq!(exchange.cursors, Cursors { states: 3, others: 1 });
        assert_eq!(finished(&mut exchange, 2, &[]), [1]);
        assert_eq!(exchange.room(), Room { states: ROWS, others: OTHERS });
    }

    #[test]
    fn reports_leave_room_for_states() {
        let mut exchange = Exchange::default();
        exchange.rows((1..=300).map(report).collect());
        assert_eq!(exchange.sent.len(), OTHERS);
        assert_eq!(exchange.room(), Room { states: ROWS - OTHERS, others: 0 });
        exchange.rows((301..=400).map(state).collect());
        assert_eq!(exchange.sent.len(), ROWS);
        assert_eq!(exchange.room(), Room { states: 0, others: 0 });
        assert_eq!(finished(&mut exchange, 0, &[1, OTHERS as u64 + 1]), [1, 301]);
        assert_eq!(exchange.room(), Room { states: 2, others: 1 });
    }

    #[test]
    fn an_inventory_of_any_size_has_one_last_frame() {
        for (entries, frames) in [(0, 1), (HELD, 1), (HELD + 1, 2)] {
            let listed = listed(vec![Held::default(); entries]);
            assert_eq!(listed.len(), frames);
            let last = |body: &Body| matches!(body, Body::Inventory(inventory) if inventory.last);
            assert_eq!(listed.iter().filter(|body| last(body)).count(), 1);
        }
    }
}
