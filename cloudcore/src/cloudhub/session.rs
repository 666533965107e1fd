//! One connected node: its desired set goes down and is acknowledged, its messages come up and are answered.
//!
//! One task owns the connection; a second carries out upstream requests, so that a slow API server never stops
//! acknowledgements. Neither waits for another node.

use std::time::Duration;

use link::{CloseReason, Incoming, ReceiveError, Receiver, SendError, Sender};
use message::{Message, MessageId, Upstream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{NodeSet, Registry, SessionHandle, authz};
use crate::devicecontroller::{self, Devices};
use crate::edgecontroller::{self, Downstream, Rights};
use crate::kubernetes::Cluster;
use crate::synccontroller::Syncs;

/// The rooms a session works with.
#[derive(Clone)]
pub struct Rooms {
    pub downstream: Downstream,
    pub devices: Devices,
    pub syncs: Syncs,
    pub upstream: UpstreamRoom,
}

/// What carries out upstream messages.
#[derive(Clone)]
pub struct UpstreamRoom {
    pub cluster: Cluster,
    pub devices: Devices,
    pub rights: Rights,
    /// Off only by explicit configuration, for migration.
    pub enforce: bool,
}

/// Upstream messages of one node that wait for the API server. A node that sends faster is read slower.
const UPSTREAM_QUEUE: usize = 64;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("no heartbeat within {0:?}")]
    Silent(Duration),
    #[error("a newer connection took over or the server is stopping")]
    Told,
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Send(#[from] SendError),
}

pub(super) struct Session {
    pub handle: SessionHandle,
    pub keepalive: Duration,
    pub rooms: Rooms,
    pub registry: Registry,
    pub sender: Sender,
    pub receiver: Receiver,
}

impl Session {
    /// Runs until the connection or its node ends.
    pub async fn run(mut self) -> End {
        let node = self.handle.node.to_string();
        let set = NodeSet::default();
        // What the node had comes first, so that the controllers' snapshots claim it.
        let known = self.rooms.syncs.known(&node);
        set.with(|desired| known.into_iter().for_each(|(key, uid)| desired.had(key, uid)));
        self.rooms.downstream.subscribe(&node, self.handle.epoch, &set);
        self.rooms.devices.subscribe(&node, self.handle.epoch, &set);
        set.with(|desired| {
            for (key, uid) in desired.unclaimed() {
                let object = stub(&key, &uid);
                desired.remove(&key, &uid, object, false);
            }
        });
        let (requests, answers, worker) = self.spawn_worker();
        let end = self.pump(&set, requests, answers).await;
        worker.abort();
        self.rooms.downstream.unsubscribe(&node, self.handle.epoch);
        self.rooms.devices.unsubscribe(&node, self.handle.epoch);
        self.sender.close(close_reason(&end, &self.registry, &self.handle)).await;
        end
    }

    fn spawn_worker(
        &self,
    ) -> (mpsc::Sender<(Message, Upstream)>, mpsc::Receiver<Message>, tokio::task::JoinHandle<()>) {
        let (requests, inbox) = mpsc::channel(UPSTREAM_QUEUE);
        let (outbox, answers) = mpsc::channel(UPSTREAM_QUEUE);
        let worker = tokio::spawn(work(self.handle.clone(), self.rooms.upstream.clone(), inbox, outbox));
        (requests, answers, worker)
    }

    async fn pump(
        &mut self,
        set: &NodeSet,
        requests: mpsc::Sender<(Message, Upstream)>,
        mut answers: mpsc::Receiver<Message>,
    ) -> End {
        let mut silent_at = Instant::now() + self.keepalive;
        // A message that the worker has no room for yet; nothing more is read until it has.
        let mut pending: Option<(Message, Upstream)> = None;
        loop {
            if let Err(error) = self.send_wanted(set).await {
                return error.into();
            }
            let overdue = set.quietly(|desired| desired.next_deadline());
            let step = tokio::select! {
                biased;
                _ = self.handle.ended.cancelled() => return End::Told,
                answer = answers.recv() => match answer {
                    Some(answer) => Step::Send(Box::new(answer)),
                    None => return End::Told,
                },
                permit = requests.reserve(), if pending.is_some() => match (permit, pending.take()) {
                    (Ok(permit), Some(request)) => { permit.send(request); Step::Nothing }
                    _ => return End::Told,
                },
                incoming = self.receiver.next(), if pending.is_none() => match incoming {
                    Ok(incoming) => Step::Received(incoming),
                    Err(error) => return error.into(),
                },
                _ = set.changed() => Step::Nothing,
                _ = sleep_until(overdue) => Step::Resend,
                _ = tokio::time::sleep_until(silent_at) => return End::Silent(self.keepalive),
            };
            let result = match step {
                Step::Nothing => Ok(()),
                Step::Send(answer) => self.sender.send(&answer).await,
                Step::Resend => self.resend(set).await,
                Step::Received(Incoming::Pong) => Ok(()),
                Step::Received(Incoming::Message(message)) => {
                    match self.take_in(set, *message, &mut silent_at) {
                        TakenIn::Done => Ok(()),
                        TakenIn::Request(request) => {
                            pending = Some(*request);
                            Ok(())
                        }
                    }
                }
            };
            if let Err(error) = result {
                return error.into();
            }
        }
    }

    async fn send_wanted(&mut self, set: &NodeSet) -> Result<(), SendError> {
        let now = daemon::clock::unix_ms();
        for notice in set.take_notices() {
            self.sender.send(&notice.to_message(now)).await?;
        }
        loop {
            let id = MessageId::random();
            let Some(body) = set.quietly(|desired| desired.next(id.clone(), Instant::now())) else {
                return Ok(());
            };
            self.sender.send(&body.to_message(daemon::clock::unix_ms()).with_id(id)).await?;
        }
    }

    async fn resend(&mut self, set: &NodeSet) -> Result<(), SendError> {
        for (id, body) in set.quietly(|desired| desired.overdue(Instant::now())) {
            self.sender.send(&body.to_message(daemon::clock::unix_ms()).with_id(id)).await?;
        }
        Ok(())
    }

    fn take_in(&self, set: &NodeSet, message: Message, silent_at: &mut Instant) -> TakenIn {
        let node = &self.handle.node;
        let upstream = match Upstream::parse(&message) {
            Ok(upstream) => upstream,
            Err(error) => {
                let resource = message.route.resource.chars().take(128).collect::<String>();
                tracing::warn!(%node, msg_id = %message.header.msg_id, resource, error = %error, "unreadable message dropped");
                return TakenIn::Done;
            }
        };
        match upstream {
            Upstream::Keepalive => *silent_at = Instant::now() + self.keepalive,
            Upstream::Acknowledged { of } => {
                if let Some(settled) = set.quietly(|desired| desired.acked(&of)) {
                    self.rooms.syncs.record(node.as_str(), settled);
                }
            }
            Upstream::Complaint { of, text } => {
                let text = text.chars().take(256).collect::<String>();
                tracing::warn!(%node, msg_id = %of, error = text, "the node could not take a message");
            }
            Upstream::Unsupported { route } => {
                tracing::debug!(%node, source = route.source, operation = route.operation, "message without a room dropped");
            }
            other => return TakenIn::Request(Box::new((message, other))),
        }
        TakenIn::Done
    }
}

enum Step {
    Nothing,
    Send(Box<Message>),
    Resend,
    Received(Incoming),
}

enum TakenIn {
    Done,
    Request(Box<(Message, Upstream)>),
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn stub(key: &message::ObjectKey, uid: &str) -> message::Json {
    let metadata = serde_json::json!({"name": key.name, "namespace": key.namespace, "uid": uid});
    message::Json::encode(&serde_json::json!({"metadata": metadata}))
        .unwrap_or_else(|_| message::Json::null())
}

fn close_reason(end: &End, registry: &Registry, handle: &SessionHandle) -> CloseReason {
    match end {
        End::Receive(ReceiveError::TooLarge) => CloseReason::TooLarge,
        End::Receive(ReceiveError::NotAMessage(_)) => CloseReason::NotAMessage,
        End::Told if registry.is_current(handle) => CloseReason::Stopping,
        End::Told => CloseReason::Replaced,
        _ => CloseReason::Done,
    }
}

/// Carries out one node's requests in order and hands the answers to its session.
async fn work(
    handle: SessionHandle,
    room: UpstreamRoom,
    mut inbox: mpsc::Receiver<(Message, Upstream)>,
    outbox: mpsc::Sender<Message>,
) {
    while let Some((asked, upstream)) = inbox.recv().await {
        let answer = room.carry_out(&handle, &asked, &upstream).await;
        if let Some(answer) = answer
            && outbox.send(answer).await.is_err()
        {
            return;
        }
    }
}

impl UpstreamRoom {
    async fn carry_out(
        &self,
        handle: &SessionHandle,
        asked: &Message,
        upstream: &Upstream,
    ) -> Option<Message> {
        let node = &handle.node;
        let refused = match authz::check(node, upstream, &self.rights).await {
            Err(status) if self.enforce => Some(status),
            _ => None,
        };
        if let Some(status) = &refused {
            let (msg_id, resource) = (&asked.header.msg_id, &asked.route.resource);
            tracing::warn!(%node, %msg_id, resource, error = %status, "message refused");
        }
        let now = daemon::clock::unix_ms();
        match (upstream, refused) {
            (Upstream::Ask(request), Some(status)) => {
                Some(request.answer(asked, &message::Reply::Refused(status), now))
            }
            (Upstream::Ask(request), None) => {
                let reply = edgecontroller::upstream::answer(&self.cluster, request).await;
                if let message::Reply::Refused(status) = &reply
                    && status.is_retryable()
                {
                    tracing::warn!(%node, resource = asked.route.resource, error = %status, "request failed");
                }
                Some(request.answer(asked, &reply, daemon::clock::unix_ms()))
            }
            (Upstream::MembershipDetail { .. }, _) => {
                Some(self.devices.membership(node.as_str()).to_message(now))
            }
            (Upstream::TwinReport { .. } | Upstream::DeviceState { .. }, refused) => {
                self.report(handle, asked, upstream, refused.is_some()).await
            }
            (event @ Upstream::Event { .. }, None) => {
                if let Err(status) = edgecontroller::upstream::record(&self.cluster, event).await {
                    tracing::warn!(%node, error = %status, "event not recorded");
                }
                None
            }
            _ => None,
        }
    }

    /// A report that cannot ever be written (refused, unknown device, unreadable) is confirmed all the same, so that
    /// the edge stops sending it; one that may succeed later is not.
    async fn report(
        &self,
        handle: &SessionHandle,
        asked: &Message,
        upstream: &Upstream,
        refused: bool,
    ) -> Option<Message> {
        let (cluster, devices) = (&self.cluster, &self.devices);
        let result = match upstream {
            _ if refused => Ok(()),
            Upstream::TwinReport { namespace, name, report } => {
                devicecontroller::upstream::report_twins(cluster, devices, namespace, name, report).await
            }
            Upstream::DeviceState { namespace, name, report } => {
                devicecontroller::upstream::report_state(cluster, devices, namespace, name, report).await
            }
            _ => Ok(()),
        };
        if let Err(status) = &result {
            tracing::warn!(node = %handle.node, resource = asked.route.resource, error = %status, "report not written");
            if status.is_retryable() {
                return None;
            }
        }
        let confirmed = message::Downstream::Confirmed { to: asked.header.msg_id.clone() };
        Some(confirmed.to_message(daemon::clock::unix_ms()))
    }
}
