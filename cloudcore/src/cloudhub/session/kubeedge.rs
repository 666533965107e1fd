//! A session in KubeEdge's dialect: one envelope per message, acknowledged by id, remembered in ObjectSyncs.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use link::{Incoming, Outlet, Receiver, Sender};
use message::{Message, MessageId, Request, Upstream};
use tokio::time::Instant;

use super::super::NodeSet;
use super::super::desired::{Ticket, Window};
use super::super::uplog::UpLog;
use super::super::upstream::Outcome;
use super::{End, HOLD, OUTGOING, Session, forget, sleep_until};

/// Something under way that ended.
enum Ended {
    Request { seq: u64, answer: Option<Box<Message>> },
    Leftovers,
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>;

struct Pump<'a> {
    session: &'a Session,
    set: &'a NodeSet,
    requests: UpLog<Box<(Message, Upstream)>>,
    running: Running,
    held: usize,
    /// The node has sent too much and is not read before.
    waits: Option<Instant>,
    outgoing: VecDeque<Message>,
    /// Ids of messages that wait for their acknowledgement; as many as the window.
    ids: Vec<(MessageId, Ticket)>,
    silent_at: Instant,
}

pub(super) async fn run(session: Box<Session>, sender: Sender, receiver: Receiver) -> End {
    let (session, set) = (&*session, &NodeSet::default());
    // What the node had comes first, so that the controllers' snapshots claim it.
    let records = session.rooms.syncs.known(session.handle.node.as_str());
    set.quietly(|desired| {
        records.into_iter().for_each(|(key, uid, version)| desired.recorded(key, uid, version));
    });
    session.subscribe(set);
    let mut outlet = Outlet::new(sender);
    let mut pump = Pump {
        session,
        set,
        requests: UpLog::default(),
        running: FuturesUnordered::new(),
        held: 0,
        waits: None,
        outgoing: VecDeque::new(),
        ids: Vec::new(),
        silent_at: Instant::now() + session.keepalive,
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
            let may_read = self.requests.has_room() && self.outgoing.len() < OUTGOING && self.may_read();
            let overdue = self.set.quietly(|desired| desired.next_deadline());
            tokio::select! {
                biased;
                _ = ended.cancelled() => return End::Told,
                written = outlet.finished() => if let Err(error) = written { return error.into() },
                Some(ended) = self.running.next(), if !self.running.is_empty() => self.on_ended(ended),
                incoming = receiver.next(), if may_read => {
                    self.held += receiver.held();
                    self.waits = self.session.note_sent(receiver.held());
                    match incoming {
                        Err(error) => return error.into(),
                        Ok(Incoming::Message(message)) => self.take_in(*message),
                        Ok(Incoming::Pong) => {}
                    }
                }
                _ = self.set.changed(), if outlet.is_idle() => {}
                _ = sleep_until(self.waits), if self.waits.is_some() => {
                    self.waits = None;
                    self.silent_at = Instant::now() + self.session.keepalive;
                }
                _ = sleep_until(overdue) => self.resend(),
                _ = tokio::time::sleep_until(self.silent_at), if self.waits.is_none() => return End::Silent(self.session.keepalive),
            }
        }
    }

    /// What was read may be held: bytes of messages add up until nothing is under way.
    fn may_read(&mut self) -> bool {
        if self.running.is_empty() {
            self.held = 0;
        }
        self.held < HOLD && self.waits.is_none()
    }

    fn next_message(&mut self) -> Option<Message> {
        let now = daemon::clock::unix_ms();
        if self.outgoing.is_empty() {
            let notices = self.set.take_notices();
            self.outgoing.extend(notices.iter().map(|notice| notice.to_message(now)));
        }
        if let Some(message) = self.outgoing.pop_front() {
            return Some(message);
        }
        let outgoing = self.set.quietly(|desired| desired.next(Window::KUBEEDGE, Instant::now()))?;
        let message = outgoing.body.to_message(now);
        self.ids.push((message.header.msg_id.clone(), outgoing.ticket));
        Some(message)
    }

    fn resend(&mut self) {
        let now = daemon::clock::unix_ms();
        for (ticket, body) in self.set.quietly(|desired| desired.overdue(Instant::now())) {
            if let Some((id, _)) = self.ids.iter().find(|(_, known)| *known == ticket) {
                self.outgoing.push_back(body.to_message(now).with_id(id.clone()));
            }
        }
    }

    fn start_requests(&mut self) {
        while let Some((seq, request)) = self.requests.start() {
            let (room, node) = (self.session.rooms.upstream.clone(), self.session.handle.node.clone());
            self.running.push(Box::pin(async move {
                let (asked, upstream) = *request;
                let answer = match room.carry_out(&node, &asked, &upstream, None).await {
                    Outcome::Done(answer) | Outcome::Later(answer) => answer,
                };
                Ended::Request { seq, answer }
            }));
        }
    }

    fn start_leftovers(&mut self) {
        if let Some(settling) = self.session.settle_leftovers(self.set) {
            self.running.push(Box::pin(settling.map(|()| Ended::Leftovers)));
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        if let Ended::Request { seq, answer } = ended {
            self.requests.finish(seq);
            // Answers go one by one in this dialect; progress is not told.
            let _ = self.requests.progress();
            self.outgoing.extend(answer.map(|answer| *answer));
        }
    }

    fn take_in(&mut self, message: Message) {
        let node = &self.session.handle.node;
        let upstream = match Upstream::parse(&message) {
            Ok(upstream) => upstream,
            Err(error) => {
                let resource = message.route.resource.chars().take(128).collect::<String>();
                tracing::warn!(%node, msg_id = %message.header.msg_id, resource, error = %error, "unreadable message dropped");
                return;
            }
        };
        match upstream {
            Upstream::Keepalive => self.silent_at = Instant::now() + self.session.keepalive,
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
                let seq = self.requests.newest() + 1;
                self.requests.receive(seq, other.order_key(), Box::new((message, other)));
            }
        }
    }

    /// A node registers when its EdgeCore starts, perhaps with an empty database: it gets everything once more, whatever
    /// the records say (KubeEdge sends nothing; the edge stays empty).
    fn start_over(&mut self) {
        forget(self.set);
        self.ids.clear();
        let records = self.session.rooms.syncs.known(self.session.handle.node.as_str());
        self.set.quietly(|desired| {
            records.into_iter().for_each(|(key, uid, _)| desired.recorded(key, uid, Default::default()));
        });
        self.session.subscribe(self.set);
        self.start_leftovers();
    }

    fn acknowledged(&mut self, of: &MessageId) {
        let Some(at) = self.ids.iter().position(|(id, _)| id == of) else { return };
        let (_, ticket) = self.ids.swap_remove(at);
        if let Some(settled) = self.set.quietly(|desired| desired.acked(ticket)) {
            self.session.rooms.syncs.record(self.session.handle.node.as_str(), settled);
        }
    }
}
