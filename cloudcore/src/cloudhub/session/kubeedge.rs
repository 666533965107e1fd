//! A session in KubeEdge's dialect: the shell around [`Exchange`]. What nodes acknowledge is remembered in ObjectSyncs.

use std::time::Duration;

use link::{Incoming, Receiver, Sender};
use message::{Message, MessageId, NodeName, ObjectKind, Reply, Request, Upstream};
use tokio::time::Instant;

use super::super::kubeedge::{self, Asked, Effect, Exchange};
use super::super::streams::NoStream;
use super::pump::{self, Half, Shell};
use super::{End, HOLD, Session};
use crate::desired::{Desired, NodeSet, Sources};

/// First and longest pause after a record could not be written.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Something under way that ended.
enum Ended {
    Request {
        seq: u64,
        /// Of the request.
        id: MessageId,
        bytes: usize,
        answer: Option<Box<Message>>,
    },
    /// It is on record that the node may not have this uid.
    Announced(String),
}

/// The half of KubeEdge's dialect.
struct KubeEdge {
    exchange: Exchange,
}

pub(super) async fn run(session: Box<Session>, sender: Sender, receiver: Receiver) -> End {
    let (set, records, node) = (NodeSet::default(), &session.rooms.records, session.handle.node.as_str());
    let known = records.known(node);
    set.without_wake(|desired| kubeedge::recorded(known, desired));
    session.subscribe(&set);
    let half = KubeEdge { exchange: Exchange::new(records.owes_everything(node)) };
    pump::run(&session, &set, half, sender, receiver).await
}

impl Half for KubeEdge {
    type Sender = Sender;
    type Receiver = Receiver;
    type Ended = Ended;

    fn begin(&mut self, shell: &mut Shell<'_, Self>) {
        shell.settle_leftovers();
    }

    fn start(&mut self, shell: &mut Shell<'_, Self>) {
        while let Some((seq, request)) = self.exchange.start() {
            let (rooms, node) = (shell.session.rooms.clone(), shell.session.handle.node.clone());
            shell.run(async move {
                let Asked { message, upstream, bytes } = *request;
                let answer = if kubeedge::is_sent_once(&upstream) {
                    rooms.upstreams.carry_out_for_good(&node, &message, &upstream, None).await
                } else {
                    let answer = rooms.upstreams.answer(&node, &message, &upstream).await;
                    answer.map(|answer| not_empty(&rooms.sources, &node, &message, &upstream, answer))
                };
                Ended::Request { seq, id: message.header.msg_id, bytes, answer }
            });
        }
    }

    fn next(&mut self, shell: &mut Shell<'_, Self>) -> Option<Message> {
        let now = daemon::clock::unix_ms();
        if shell.outgoing.is_empty() {
            let (notices, dropped) = shell.set.take_notices();
            shell.session.metrics.notices_dropped(dropped);
            shell.outgoing.extend(notices.iter().map(|notice| notice.to_message(now)));
        }
        if let Some(message) = shell.outgoing.pop_front() {
            return Some(message);
        }
        let (message, away, announcing) = shell.set.without_wake(|desired| {
            let message = self.exchange.next(desired, Instant::now(), now);
            (message, desired.take_away(), desired.take_announcing())
        });
        shell.session.want(&away);
        for (key, uid) in announcing {
            let (records, node) = (shell.session.rooms.records.clone(), shell.session.handle.node.clone());
            shell.run(async move {
                let mut failures = 0;
                while !records.doubt(node.as_str(), key.clone(), uid.clone()).await {
                    if failures == 0 {
                        tracing::warn!(%node, object = %key, "a removal waits: it could not be recorded, which is tried again");
                    }
                    tokio::time::sleep(daemon::backoff::doubled(AGAIN.0, AGAIN.1, failures)).await;
                    failures = failures.saturating_add(1);
                }
                Ended::Announced(uid)
            });
        }
        message.or_else(|| {
            let next = |watched: &mut Desired| self.exchange.next_watched(watched, Instant::now(), now);
            shell.set.without_wake_watched(next).flatten()
        })
    }

    async fn spare(&mut self, session: &Session) -> Message {
        loop {
            session.handle.streams.next().await.answer(Err(NoStream::Unable));
        }
    }

    fn is_charged(_: &Incoming) -> bool {
        true
    }

    fn take_in(&mut self, incoming: Incoming, bytes: usize, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        let Incoming::Message(message) = incoming else { return Ok(()) };
        let acknowledged = |watched: &mut Desired| self.exchange.acknowledges_watched(&message, watched);
        if shell.set.without_wake_watched(acknowledged) == Some(true) {
            return Ok(());
        }
        let now = daemon::clock::unix_ms();
        let taken = shell.set.without_wake(|desired| self.exchange.take_in(*message, bytes, desired, now));
        let (session, node) = (shell.session, &shell.session.handle.node);
        match taken {
            None => {}
            Some(Effect::Spoke) => shell.silence.spoke(session.keepalive),
            Some(Effect::Record { settled, is_all }) => {
                session.rooms.records.record(node.as_str(), *settled);
                if is_all {
                    session.rooms.records.has_everything(node.as_str());
                }
            }
            Some(Effect::StartOver) => start_over(shell),
            Some(Effect::Volume { of, answer }) => session.rooms.volumes.answered(node, &of, *answer),
            Some(Effect::Send(message)) => shell.outgoing.push_back(*message),
            Some(Effect::Complained { of, text }) => {
                tracing::warn!(%node, msg_id = %of, error = text, "the node could not take a message");
            }
            Some(Effect::Unreadable { message, error }) => session.note_unreadable(&message, &error),
            Some(Effect::Unsupported { route }) => {
                let (source, operation) = (route.source, route.operation);
                tracing::debug!(%node, source, operation, "message without a room dropped");
            }
        }
        Ok(())
    }

    fn on_ended(&mut self, ended: Ended, shell: &mut Shell<'_, Self>) {
        match ended {
            Ended::Request { seq, id, bytes, answer } => {
                self.exchange.finished(seq, &id, bytes);
                shell.outgoing.extend(answer.map(|answer| *answer));
            }
            Ended::Announced(uid) => shell.set.without_wake(|desired| desired.announced(&uid)),
        }
    }

    fn has_room(&self) -> bool {
        self.exchange.has_room() && self.exchange.held() < HOLD
    }

    fn patience(&self, keepalive: Duration) -> Duration {
        keepalive
    }

    /// When the first acknowledgement is overdue.
    fn time(&self, set: &NodeSet) -> Option<Instant> {
        let first = set.without_wake(|desired| desired.next_deadline());
        let watched = set.without_wake_watched(|watched| watched.next_deadline()).flatten();
        first.into_iter().chain(watched).min()
    }

    fn on_time(&mut self, shell: &mut Shell<'_, Self>) {
        let now = daemon::clock::unix_ms();
        let again = shell.set.without_wake(|desired| self.exchange.overdue(desired, Instant::now(), now));
        shell.outgoing.extend(again);
        let again = |watched: &mut Desired| self.exchange.overdue_watched(watched, Instant::now(), now);
        shell.outgoing.extend(shell.set.without_wake_watched(again).unwrap_or_default());
    }
}

/// What is recorded counts for what may have to go, not for what the node has.
fn start_over(shell: &mut Shell<'_, KubeEdge>) {
    let (rooms, node) = (&shell.session.rooms, shell.session.handle.node.as_str());
    rooms.records.start_over(node);
    let records = rooms.records.known(node);
    shell.set.without_wake(|desired| kubeedge::recorded(records, desired));
    shell.session.subscribe(shell.set);
    shell.settle_leftovers();
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
