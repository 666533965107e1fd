//! A session in KubeEdge's dialect: the shell around [`Exchange`]. What nodes acknowledge is remembered in ObjectSyncs.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use link::{Incoming, Outlet, Receiver, Sender};
use message::{Message, MessageId, NodeName, ObjectKind, Reply, Request, Upstream};
use tokio::time::Instant;

use super::super::kubeedge::{self, Asked, Effect, Exchange};
use super::silence::Silence;
use super::{End, HOLD, OUTGOING, Session, settled, sleep_until};
use crate::desired::{NodeSet, Sources};

/// A request under way that ended.
struct Ended {
    seq: u64,
    /// Of the request.
    id: MessageId,
    bytes: usize,
    answer: Option<Box<Message>>,
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>;

struct Pump<'a> {
    session: &'a Session,
    set: &'a NodeSet,
    exchange: Exchange,
    running: Running,
    /// Apart from what the node asked for: it holds nothing of the node's, and may take as long as an outage.
    leftovers: Option<BoxFuture<'static, ()>>,
    /// The node has sent too much and is not read before.
    waits: Option<Instant>,
    outgoing: VecDeque<Message>,
    silence: Silence,
}

pub(super) async fn run(session: Box<Session>, sender: Sender, receiver: Receiver) -> End {
    let (session, set) = (&*session, &NodeSet::default());
    let records = session.rooms.records.known(session.handle.node.as_str());
    set.without_wake(|desired| kubeedge::recorded(records, desired));
    session.subscribe(set);
    let mut outlet = Outlet::new(sender);
    let mut pump = Pump {
        session,
        set,
        exchange: Exchange::new(session.rooms.records.owes_everything(session.handle.node.as_str())),
        running: FuturesUnordered::new(),
        leftovers: None,
        waits: None,
        outgoing: VecDeque::new(),
        silence: Silence::new(Instant::now() + session.keepalive),
    };
    pump.start_leftovers();
    let end = pump.pump(&mut outlet, receiver).await;
    drop(pump);
    session.unsubscribe();
    outlet.close(session.close_reason(&end)).await;
    end
}

impl Pump<'_> {
    async fn pump(&mut self, outlet: &mut Outlet<Sender>, mut receiver: Receiver) -> End {
        let ended = self.session.handle.ended.clone();
        loop {
            self.start_requests();
            if outlet.is_idle()
                && let Some(message) = self.next_message()
            {
                outlet.send(message);
            }
            if self.set.is_node_deleted() {
                return End::NodeDeleted;
            }
            let may_read = self.may_read();
            self.silence.reading(may_read, self.session.keepalive);
            let overdue = self.set.without_wake(|desired| desired.next_deadline());
            tokio::select! {
                biased;
                _ = ended.cancelled() => return End::Told,
                written = outlet.finished() => if let Err(error) = written { return error.into() },
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.on_ended(ended),
                () = settled(&mut self.leftovers) => self.leftovers = None,
                incoming = receiver.next(), if may_read => {
                    let bytes = receiver.held();
                    self.waits = self.session.note_sent(bytes);
                    match incoming {
                        Err(error) => return error.into(),
                        Ok(Incoming::Message(message)) => self.take_in(*message, bytes),
                        Ok(Incoming::Pong) => {}
                    }
                }
                _ = self.set.changed(), if outlet.is_idle() => {}
                _ = sleep_until(self.waits), if self.waits.is_some() => self.waits = None,
                _ = sleep_until(overdue) => self.resend(),
                _ = sleep_until(self.silence.ends()) => return End::Silent(self.session.keepalive),
            }
        }
    }

    /// What was read is held until it is carried out.
    fn may_read(&self) -> bool {
        self.exchange.has_room()
            && self.outgoing.len() < OUTGOING
            && self.exchange.held() < HOLD
            && self.waits.is_none()
    }

    fn next_message(&mut self) -> Option<Message> {
        let now = daemon::clock::unix_ms();
        if self.outgoing.is_empty() {
            let (notices, dropped) = self.set.take_notices();
            self.session.metrics.notices_dropped(dropped);
            self.outgoing.extend(notices.iter().map(|notice| notice.to_message(now)));
        }
        if let Some(message) = self.outgoing.pop_front() {
            return Some(message);
        }
        self.set.without_wake(|desired| self.exchange.next(desired, Instant::now(), now))
    }

    fn resend(&mut self) {
        let now = daemon::clock::unix_ms();
        let again = self.set.without_wake(|desired| self.exchange.overdue(desired, Instant::now(), now));
        self.outgoing.extend(again);
    }

    fn start_requests(&mut self) {
        while let Some((seq, request)) = self.exchange.start() {
            let (rooms, node) = (self.session.rooms.clone(), self.session.handle.node.clone());
            self.running.push(Box::pin(async move {
                let Asked { message, upstream, bytes } = *request;
                let answer = if kubeedge::is_sent_once(&upstream) {
                    rooms.upstreams.carry_out_for_good(&node, &message, &upstream, None).await
                } else {
                    let answer = rooms.upstreams.answer(&node, &message, &upstream).await;
                    answer.map(|answer| not_empty(&rooms.sources, &node, &message, &upstream, answer))
                };
                Ended { seq, id: message.header.msg_id, bytes, answer }
            }));
        }
    }

    fn start_leftovers(&mut self) {
        if let Some(settling) = self.session.settle_leftovers(self.set) {
            self.leftovers = Some(Box::pin(settling));
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        self.exchange.finished(ended.seq, &ended.id, ended.bytes);
        self.outgoing.extend(ended.answer.map(|answer| *answer));
    }

    fn take_in(&mut self, message: Message, bytes: usize) {
        let now = daemon::clock::unix_ms();
        let taken = self.set.without_wake(|desired| self.exchange.take_in(message, bytes, desired, now));
        let (session, node) = (self.session, &self.session.handle.node);
        match taken {
            None => {}
            Some(Effect::Spoke) => self.silence.spoke(session.keepalive),
            Some(Effect::Record { settled, is_all }) => {
                session.rooms.records.record(node.as_str(), *settled);
                if is_all {
                    session.rooms.records.has_everything(node.as_str());
                }
            }
            Some(Effect::StartOver) => self.start_over(),
            Some(Effect::Volume { of, answer }) => session.rooms.volumes.answered(node, &of, *answer),
            Some(Effect::Send(message)) => self.outgoing.push_back(*message),
            Some(Effect::Complained { of, text }) => {
                tracing::warn!(%node, msg_id = %of, error = text, "the node could not take a message");
            }
            Some(Effect::Unreadable { message, error }) => session.note_unreadable(&message, &error),
            Some(Effect::Unsupported { route }) => {
                let (source, operation) = (route.source, route.operation);
                tracing::debug!(%node, source, operation, "message without a room dropped");
            }
        }
    }

    /// What is recorded counts for what may have to go, not for what the node has.
    fn start_over(&mut self) {
        let (rooms, node) = (&self.session.rooms, self.session.handle.node.as_str());
        rooms.records.start_over(node);
        let records = rooms.records.known(node);
        self.set.without_wake(|desired| kubeedge::recorded(records, desired));
        self.session.subscribe(self.set);
        self.start_leftovers();
    }
}

/// A Go edge must not take the refusal of what a pod needs for an empty object. Where all its pods can do without, the
/// empty object is what they expect.
fn not_empty(
    sources: &Sources,
    node: &NodeName,
    asked: &Message,
    upstream: &Upstream,
    answer: Box<Message>,
) -> Box<Message> {
    let Upstream::Ask(Request::Get { key }) = upstream else { return answer };
    let mounted = matches!(key.kind, ObjectKind::ConfigMap | ObjectKind::Secret);
    match Reply::read(&answer.content) {
        Reply::Refused(status) if mounted && sources.is_needed(node.as_str(), key) => {
            Box::new(Request::undecodable_refusal(asked, &status, daemon::clock::unix_ms()))
        }
        _ => answer,
    }
}
