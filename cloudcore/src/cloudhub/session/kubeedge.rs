//! A session in KubeEdge's dialect: one envelope per message, acknowledged by id, remembered in ObjectSyncs.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use link::{Incoming, Outlet, Receiver, Sender};
use message::{Message, MessageId, NodeName, ObjectKind, Reply, Request, Upstream};
use tokio::time::Instant;

use super::super::metrics::Loss;
use super::super::uplog::UpLog;
use super::super::upstream::UpstreamRoom;
use super::silence::Silence;
use super::{End, HOLD, OUTGOING, Session, forget, settled, sleep_until};
use crate::desired::{NodeSet, Ticket, Window};

/// A request under way that ended.
struct Ended {
    seq: u64,
    /// Of the request.
    id: MessageId,
    bytes: usize,
    answer: Option<Box<Message>>,
}

/// A message to carry out.
struct Asked {
    message: Message,
    upstream: Upstream,
    bytes: usize,
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>;

struct Pump<'a> {
    session: &'a Session,
    set: &'a NodeSet,
    requests: UpLog<Box<Asked>>,
    running: Running,
    /// Apart from what the node asked for: it holds nothing of the node's, and may take as long as an outage.
    leftovers: Option<BoxFuture<'static, ()>>,
    /// Reports that are being carried out: a node that sends one again is not answered twice, and nothing is written late.
    under_way: HashSet<MessageId>,
    /// Bytes of messages that are not carried out yet.
    held: usize,
    /// The node has sent too much and is not read before.
    waits: Option<Instant>,
    outgoing: VecDeque<Message>,
    /// Ids of messages that wait for their acknowledgement; as many as the window.
    ids: Vec<(MessageId, Ticket)>,
    silence: Silence,
}

pub(super) async fn run(session: Box<Session>, sender: Sender, receiver: Receiver) -> End {
    let (session, set) = (&*session, &NodeSet::default());
    // What the node had comes first, so that the controllers' snapshots claim it.
    let records = session.rooms.syncs.known(session.handle.node.as_str());
    set.without_wake(|desired| {
        records.into_iter().for_each(|(key, uid, version)| desired.recorded(key, uid, version));
    });
    session.subscribe(set);
    let mut outlet = Outlet::new(sender);
    let mut pump = Pump {
        session,
        set,
        requests: UpLog::default(),
        running: FuturesUnordered::new(),
        leftovers: None,
        under_way: HashSet::new(),
        held: 0,
        waits: None,
        outgoing: VecDeque::new(),
        ids: Vec::new(),
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
        self.requests.has_room() && self.outgoing.len() < OUTGOING && self.held < HOLD && self.waits.is_none()
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
        let outgoing = self.set.without_wake(|desired| desired.next(Window::KUBEEDGE, Instant::now()))?;
        let message = outgoing.body.to_message(now);
        self.ids.push((message.header.msg_id.clone(), outgoing.ticket));
        Some(message)
    }

    fn resend(&mut self) {
        let now = daemon::clock::unix_ms();
        for (ticket, body) in self.set.without_wake(|desired| desired.overdue(Instant::now())) {
            if let Some((id, _)) = self.ids.iter().find(|(_, known)| *known == ticket) {
                self.outgoing.push_back(body.to_message(now).with_id(id.clone()));
            }
        }
    }

    fn start_requests(&mut self) {
        while let Some((seq, request)) = self.requests.start() {
            let (room, node) = (self.session.rooms.upstream.clone(), self.session.handle.node.clone());
            self.running.push(Box::pin(async move {
                let Asked { message, upstream, bytes } = *request;
                let answer = if is_sent_once(&upstream) {
                    room.carry_out_for_good(&node, &message, None).await
                } else {
                    let answer = room.carry_out(&node, &message, &upstream, None).await.into_answer();
                    answer.map(|answer| not_empty(&room, &node, &message, &upstream, answer))
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
        self.requests.finish(ended.seq);
        self.held = self.held.saturating_sub(ended.bytes);
        self.under_way.remove(&ended.id);
        // Answers go one by one in this dialect; progress is not told.
        let _ = self.requests.progress();
        self.outgoing.extend(ended.answer.map(|answer| *answer));
    }

    fn take_in(&mut self, message: Message, bytes: usize) {
        let node = &self.session.handle.node;
        let upstream = match Upstream::parse(&message) {
            Ok(upstream) => upstream,
            Err(error) => {
                let resource = message.route.resource.chars().take(128).collect::<String>();
                tracing::warn!(%node, msg_id = %message.header.msg_id, resource, error = %error, "unreadable message dropped");
                self.session.metrics.lost(Loss::Unreadable);
                return;
            }
        };
        match upstream {
            Upstream::Keepalive => self.silence.spoke(self.session.keepalive),
            Upstream::Acknowledged { of } => self.acknowledged(&of),
            Upstream::Complaint { of, text } => {
                let text = text.chars().take(256).collect::<String>();
                tracing::warn!(%node, msg_id = %of, error = text, "the node could not take a message");
            }
            Upstream::VolumeAnswer { of, .. } => self.session.rooms.volumes.answered(node, &of, message),
            Upstream::Control => self.outgoing.push_back(message.control_reply(daemon::clock::unix_ms())),
            Upstream::Unsupported { route } => {
                tracing::debug!(%node, source = route.source, operation = route.operation, "message without a room dropped");
            }
            other => {
                if matches!(other, Upstream::Ask(Request::CreateNode { .. } | Request::EnsureNode { .. })) {
                    self.start_over();
                }
                if is_sent_once(&other) && !self.under_way.insert(message.header.msg_id.clone()) {
                    return;
                }
                self.held += bytes;
                let (seq, key) = (self.requests.newest() + 1, other.order_key());
                self.requests.receive(seq, key, Box::new(Asked { message, upstream: other, bytes }));
            }
        }
    }

    /// A node registers when its EdgeCore starts, perhaps with an empty database: it gets everything once more, whatever
    /// the records say (KubeEdge sends nothing; the edge stays empty).
    fn start_over(&mut self) {
        forget(self.set);
        self.ids.clear();
        let records = self.session.rooms.syncs.known(self.session.handle.node.as_str());
        self.set.without_wake(|desired| {
            records.into_iter().for_each(|(key, uid, _)| desired.recorded(key, uid, Default::default()));
        });
        self.session.subscribe(self.set);
        self.start_leftovers();
    }

    fn acknowledged(&mut self, of: &MessageId) {
        let Some(at) = self.ids.iter().position(|(id, _)| id == of) else { return };
        let (_, ticket) = self.ids.swap_remove(at);
        if let Some(settled) = self.set.without_wake(|desired| desired.acked(ticket)) {
            self.session.rooms.syncs.record(self.session.handle.node.as_str(), settled);
        }
    }
}

/// A Go edge must not take the refusal of what a pod needs for an empty object. Where all its pods can do without, the
/// empty object is what they expect.
fn not_empty(
    room: &UpstreamRoom,
    node: &NodeName,
    asked: &Message,
    upstream: &Upstream,
    answer: Box<Message>,
) -> Box<Message> {
    let Upstream::Ask(Request::Get { key }) = upstream else { return answer };
    let mounted = matches!(key.kind, ObjectKind::ConfigMap | ObjectKind::Secret);
    match Reply::read(&answer.content) {
        Reply::Refused(status) if mounted && room.downstream.is_needed(node.as_str(), key) => {
            Box::new(Request::undecodable_refusal(asked, &status, daemon::clock::unix_ms()))
        }
        _ => answer,
    }
}

/// Go edges send events and reports once, and wait for no answer or give up without one: what the API server could not
/// take is tried again here. Requests are answered, and their sender asks again.
fn is_sent_once(upstream: &Upstream) -> bool {
    matches!(upstream, Upstream::Event { .. } | Upstream::TwinReport { .. } | Upstream::DeviceState { .. })
}
