//! The cloud's half of KubeEdge's dialect, without sockets, clock and API server: messages in, effects out. Pure.
//!
//! ```text
//! next() --object--> edge --acknowledgement, by the message's id--> take_in() --> Record
//! edge --request, report--> take_in() --> start() ... finished() --> answer
//! ```
//!
//! One envelope per message. What a node is recorded to have acknowledged comes from outside ([`recorded`]).

use std::collections::{HashSet, VecDeque};

use message::{Message, MessageId, ObjectKey, Request, ResourceVersion, Route, Upstream};
use tokio::time::Instant;

use super::uplog::UpLog;
use crate::desired::{Desired, Settled, Ticket, Window};

/// A message to carry out.
#[derive(Debug)]
pub struct Asked {
    pub message: Message,
    pub upstream: Upstream,
    /// Bytes of its text.
    pub bytes: usize,
}

/// What the session has to do.
#[derive(Debug)]
pub enum Effect {
    /// The node shows that it lives.
    Spoke,
    /// Remember what it has acknowledged; `is_all`: it has everything now.
    Record { settled: Box<Settled>, is_all: bool },
    /// It registers: fill its set anew, with what is recorded of it.
    StartOver,
    /// A storage call is answered.
    Volume { of: MessageId, answer: Box<Message> },
    /// Send this.
    Send(Box<Message>),
    /// It could not take a message.
    Complained { of: MessageId, text: String },
    /// Nobody can read the message.
    Unreadable { message: Box<Message>, error: String },
    /// No room takes the message.
    Unsupported { route: Route },
}

/// One session's state.
#[derive(Debug, Default)]
pub struct Exchange {
    requests: UpLog<Box<Asked>>,
    /// Reports that are being carried out: a node that sends one again is not answered twice, and nothing is written late.
    under_way: HashSet<MessageId>,
    /// Bytes of messages that are not carried out yet.
    held: usize,
    /// Of what it should have.
    sent: Sendings,
    /// Of what it watches.
    watched: Sendings,
    /// The node has started, and has not got everything since.
    owes_everything: bool,
}

/// Ids of messages that wait for their acknowledgement; as many as the window.
#[derive(Debug, Default)]
struct Sendings(Vec<(MessageId, Ticket)>);

impl Sendings {
    fn next(&mut self, desired: &mut Desired, window: Window, (at, now): (Instant, i64)) -> Option<Message> {
        let outgoing = desired.next(window, at)?;
        let message = outgoing.body.to_message(now);
        self.0.push((message.header.msg_id.clone(), outgoing.ticket));
        Some(message)
    }

    fn overdue(&mut self, desired: &mut Desired, (at, now): (Instant, i64)) -> VecDeque<Message> {
        let overdue = desired.overdue(at).into_iter();
        let again = overdue.filter_map(|(ticket, body)| {
            let (id, _) = self.0.iter().find(|(_, known)| *known == ticket)?;
            Some(body.to_message(now).with_id(id.clone()))
        });
        let again = again.collect();
        // What was given up is sent anew under another id.
        self.0.retain(|(_, ticket)| desired.is_under_way(*ticket));
        again
    }

    fn take(&mut self, of: &MessageId) -> Option<Ticket> {
        let at = self.0.iter().position(|(id, _)| id == of)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Takes what a node is recorded to have into its set, before the sources fill it, so that they claim it. From then on the
/// records keep up with what is taken from the node.
pub fn recorded(records: Vec<(ObjectKey, String, ResourceVersion)>, desired: &mut Desired) {
    desired.announce_removals();
    records.into_iter().for_each(|(key, uid, version)| desired.recorded(key, uid, version));
}

impl Exchange {
    /// `owes_everything`: the node has started, and an earlier session ended before it had everything.
    pub fn new(owes_everything: bool) -> Exchange {
        Exchange { owes_everything, ..Exchange::default() }
    }

    /// Takes in a message of `bytes`. `now` is in milliseconds since 1970.
    pub fn take_in(
        &mut self,
        message: Message,
        bytes: usize,
        desired: &mut Desired,
        now: i64,
    ) -> Option<Effect> {
        let upstream = match Upstream::parse(&message) {
            Ok(upstream) => upstream,
            Err(error) => {
                return Some(Effect::Unreadable { message: Box::new(message), error: error.to_string() });
            }
        };
        match upstream {
            Upstream::Keepalive => Some(Effect::Spoke),
            Upstream::Acknowledged { of } => self.acknowledged(&of, desired),
            Upstream::Complaint { of, text } => {
                Some(Effect::Complained { of, text: text.chars().take(256).collect() })
            }
            Upstream::VolumeAnswer { of, .. } => Some(Effect::Volume { of, answer: Box::new(message) }),
            Upstream::Control => Some(Effect::Send(Box::new(message.control_reply(now)))),
            Upstream::Unsupported { route } => Some(Effect::Unsupported { route }),
            upstream => {
                let starts = matches!(
                    upstream,
                    Upstream::Ask(Request::CreateNode { .. } | Request::EnsureNode { .. })
                );
                self.ask(Asked { message, upstream, bytes });
                starts.then(|| self.start_over(desired))
            }
        }
    }

    fn ask(&mut self, asked: Asked) {
        if is_sent_once(&asked.upstream) && !self.under_way.insert(asked.message.header.msg_id.clone()) {
            return;
        }
        self.held += asked.bytes;
        let (seq, key) = (self.requests.newest() + 1, asked.upstream.order_key());
        self.requests.receive(seq, key, Box::new(asked));
    }

    /// A node registers when its EdgeCore starts, perhaps with an empty database: it gets everything once more, whatever
    /// the records say (KubeEdge sends nothing; the edge stays empty).
    fn start_over(&mut self, desired: &mut Desired) -> Effect {
        desired.forget();
        self.sent.0.clear();
        self.owes_everything = true;
        Effect::StartOver
    }

    fn acknowledged(&mut self, of: &MessageId, desired: &mut Desired) -> Option<Effect> {
        let ticket = self.sent.take(of)?;
        let settled = Box::new(desired.acked(ticket)?);
        let is_all = self.owes_everything && desired.is_settled();
        self.owes_everything &= !is_all;
        Some(Effect::Record { settled, is_all })
    }

    /// The next object to send, as far as the window reaches.
    pub fn next(&mut self, desired: &mut Desired, at: Instant, now: i64) -> Option<Message> {
        self.sent.next(desired, Window::KUBEEDGE, (at, now))
    }

    /// Objects that were not acknowledged in time, to be sent again under their ids.
    pub fn overdue(&mut self, desired: &mut Desired, at: Instant, now: i64) -> VecDeque<Message> {
        self.sent.overdue(desired, (at, now))
    }

    /// As [`Exchange::next`], of what the node watches.
    pub fn next_watched(&mut self, watched: &mut Desired, at: Instant, now: i64) -> Option<Message> {
        self.watched.next(watched, Window::WATCHED, (at, now))
    }

    /// As [`Exchange::overdue`], of what the node watches.
    pub fn overdue_watched(&mut self, watched: &mut Desired, at: Instant, now: i64) -> VecDeque<Message> {
        self.watched.overdue(watched, (at, now))
    }

    /// True if the node acknowledges with this message what it watches, which nobody records.
    pub fn acknowledges_watched(&mut self, message: &Message, watched: &mut Desired) -> bool {
        let is_answer = message.route.operation == "response";
        let ticket = is_answer.then(|| self.watched.take(&message.header.parent_msg_id)).flatten();
        ticket.map(|ticket| watched.acked(ticket)).is_some()
    }

    /// The next message to carry out; those about one thing wait for each other.
    pub fn start(&mut self) -> Option<(u64, Box<Asked>)> {
        self.requests.start()
    }

    /// A message is carried out.
    pub fn finished(&mut self, seq: u64, id: &MessageId, bytes: usize) {
        self.requests.finish(seq);
        self.held = self.held.saturating_sub(bytes);
        self.under_way.remove(id);
        // Answers go one by one in this dialect; progress is not told.
        let _ = self.requests.progress();
    }

    /// True if more messages may be read.
    pub fn has_room(&self) -> bool {
        self.requests.has_room()
    }

    /// Bytes of messages that are not carried out yet.
    pub fn held(&self) -> usize {
        self.held
    }
}

/// Go edges send events and reports once, and wait for no answer or give up without one: what the API server could not
/// take is tried again here. Requests are answered, and their sender asks again.
pub fn is_sent_once(upstream: &Upstream) -> bool {
    matches!(upstream, Upstream::Event { .. } | Upstream::TwinReport { .. } | Upstream::DeviceState { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Wanted;
    use message::{Json, ObjectKind};

    fn wanted(name: &str, version: &str) -> Wanted {
        let object = Json::from_text(format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}")).unwrap();
        let key = ObjectKey::new(Some("d"), ObjectKind::ConfigMap, name);
        Wanted {
            key,
            uid: name.to_owned(),
            version: ResourceVersion(version.to_owned()),
            mark: 0,
            object: object.into(),
        }
    }

    fn report(id: &str) -> Message {
        let report = Json::from_text("{}".to_owned()).unwrap();
        let upstream = Upstream::TwinReport { namespace: "d".into(), name: "valve".into(), report };
        upstream.to_message(0).with_id(MessageId(id.to_owned()))
    }

    #[test]
    fn an_object_is_recorded_once_it_is_acknowledged_by_its_id() {
        let (mut exchange, mut desired, at) = (Exchange::default(), Desired::default(), Instant::now());
        desired.put(wanted("a", "7"));
        let sent = exchange.next(&mut desired, at, 0).unwrap();
        let again = exchange.overdue(&mut desired, at + crate::desired::RESEND_AFTER, 0);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].header.msg_id, sent.header.msg_id);
        let mut ack = |of: &Message| exchange.take_in(of.ack(0), 0, &mut desired, 0);
        assert!(matches!(ack(&sent), Some(Effect::Record { settled, .. }) if settled.uid == "a"));
        assert!(ack(&sent).is_none(), "acknowledged twice");
    }

    #[test]
    fn a_report_that_comes_again_while_it_is_carried_out_is_taken_once() {
        let (mut exchange, mut desired) = (Exchange::default(), Desired::default());
        for _ in 0..2 {
            assert!(exchange.take_in(report("one"), 10, &mut desired, 0).is_none());
        }
        let (seq, asked) = exchange.start().unwrap();
        assert!(exchange.start().is_none() && exchange.held() == 10);
        exchange.finished(seq, &asked.message.header.msg_id, asked.bytes);
        exchange.take_in(report("one"), 10, &mut desired, 0);
        assert!(exchange.start().is_some(), "sent again after its answer, it is answered again");
    }
}
