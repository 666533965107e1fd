//! A session in KubeEdge's dialect: one envelope per message, acknowledged by id.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use daemon::health::Beat;
use link::{CloseReason, Incoming, ReceiveError, Receiver, Sender};
use message::{Downstream, Json, Message, MessageId, Received, Reply, Upstream, VolumeCall};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::super::hold::Hold;
use super::super::inflight::InFlight;
use super::super::{Metrics, commit, describe};
use super::{DONE_QUEUE, End, SILENT_HEARTBEATS, Session, SessionTasks, remove_done, sleep_until};
use metamanager::cloud::Call;
use metamanager::outbox::{Outbox, Waiting};

/// Objects kept while the commit queue is full. A cloud that sends more without acknowledgements breaks the protocol.
const MAX_PENDING: usize = 4096;

/// How often reports without an answer are looked at, while there are any messages without one.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(sender: Sender, receiver: Receiver, session: Session<'_>) -> End {
    let mut aides = SessionTasks::default();
    let mut pump = Pump::new(sender, receiver, &session, &mut aides);
    let end = tokio::select! {
        biased;
        pumped = pump.pump(session.calls, session.stop) => pumped.err().unwrap_or(End::Stopped),
        end = aides.ended() => end,
    };
    pump.close(&end).await;
    aides.leave();
    end
}

struct Pump {
    sender: Sender,
    receiver: Receiver,
    metrics: Metrics,
    beat: Beat,
    heartbeat: Duration,
    outbox: Outbox,
    flight: InFlight,
    /// Live requests by message id.
    calls: HashMap<MessageId, oneshot::Sender<Reply>>,
    /// Received objects the commit queue has no room for yet.
    pending: VecDeque<commit::Item>,
    commits: mpsc::Sender<commit::Item>,
    hold: Hold,
    acks: mpsc::Receiver<Message>,
    done: mpsc::Sender<i64>,
}

impl Pump {
    fn new(sender: Sender, receiver: Receiver, session: &Session<'_>, aides: &mut SessionTasks) -> Pump {
        let (commits, inbox) = mpsc::channel(commit::QUEUE);
        let (ack_sender, acks) = mpsc::channel(commit::QUEUE);
        aides.spawn(commit::run(session.intake.clone(), session.signs.commits.clone(), inbox, ack_sender));
        let (done, finished) = mpsc::channel(DONE_QUEUE);
        aides.spawn(remove_done(session.outbox.clone(), finished));
        Pump {
            sender,
            receiver,
            metrics: session.metrics.clone(),
            beat: session.signs.link.clone(),
            heartbeat: session.heartbeat,
            outbox: session.outbox.clone(),
            flight: InFlight::default(),
            calls: HashMap::new(),
            pending: VecDeque::new(),
            commits,
            hold: Hold::new(),
            acks,
            done,
        }
    }

    /// Live requests without an answer fail when this returns.
    async fn close(self, end: &End) {
        let reason = match end {
            End::Receive(ReceiveError::TooLarge { .. }) => CloseReason::TooLarge,
            End::Receive(ReceiveError::NotAMessage(_)) => CloseReason::NotAMessage,
            _ => CloseReason::Done,
        };
        self.sender.close(reason).await;
    }

    async fn pump(&mut self, calls: &mut mpsc::Receiver<Call>, stop: CancellationToken) -> Result<(), End> {
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let patience = self.heartbeat * SILENT_HEARTBEATS;
        let mut heard = Instant::now();
        self.send_waiting().await?;
        let (commits, hold, beat) = (self.commits.clone(), self.hold.clone(), self.beat.clone());
        loop {
            let retry = self.flight.next_deadline();
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                Some(ack) = self.acks.recv() => self.send(&ack).await?,
                permit = commits.reserve(), if !self.pending.is_empty() => {
                    if let (Ok(permit), Some(received)) = (permit, self.pending.pop_front()) {
                        permit.send(received);
                    }
                }
                _ = hold.room(), if hold.is_full() => {}
                incoming = self.receiver.next(), if !hold.is_full() => {
                    heard = Instant::now();
                    if let Incoming::Message(message) = incoming? {
                        self.metrics.received(message.content.text().len());
                        let _busy = beat.begin();
                        self.take_in(*message).await?;
                    }
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > patience {
                        return Err(End::Silent(patience));
                    }
                    self.send(&Upstream::Keepalive.to_message(daemon::clock::unix_ms())).await?;
                    self.sender.ping().await?;
                }
                Some(call) = calls.recv() => self.send_call(call).await?,
                _ = self.outbox.added(), if self.flight.room() > 0 => {
                    let _busy = beat.begin();
                    self.send_waiting().await?;
                }
                _ = sleep_until(retry) => {
                    let _busy = beat.begin();
                    self.send_again().await?;
                }
                _ = look.tick(), if !self.flight.is_empty() => self.overtake().await?,
            }
        }
    }

    async fn send(&mut self, message: &Message) -> Result<(), End> {
        self.metrics.sent(message.content.text().len());
        Ok(self.sender.send(message).await?)
    }

    async fn send_call(&mut self, call: Call) -> Result<(), End> {
        let message = Upstream::Ask(call.request).to_message(daemon::clock::unix_ms());
        // Callers that gave up have closed their end.
        self.calls.retain(|_, answer| !answer.is_closed());
        self.calls.insert(message.header.msg_id.clone(), call.answer);
        self.send(&message).await
    }

    async fn send_waiting(&mut self) -> Result<(), End> {
        while self.flight.room() > 0 {
            let rows = self.outbox.next(self.flight.cursor, self.flight.room()).await.map_err(End::Store)?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                self.send_row(row).await?;
            }
        }
        Ok(())
    }

    async fn send_again(&mut self) -> Result<(), End> {
        let due = self.flight.due(Instant::now());
        if !due.given_up.is_empty() {
            tracing::warn!(reports = due.given_up.len(), "reports given up: the cloud passes them over");
        }
        for seq in due.given_up {
            // The receiving task ends only with this session.
            let _ = self.done.send(seq).await;
        }
        for seq in due.again {
            // The row may be gone or replaced by a newer one, which is sent in its own turn.
            let rows = self.outbox.next(seq - 1, 1).await.map_err(End::Store)?;
            match rows.into_iter().find(|row| row.seq == seq) {
                Some(row) => self.send_row(row).await?,
                None => self.flight.forget(seq),
            }
        }
        self.send_waiting().await
    }

    /// A Go cloud says nothing to a report it could not write: the next one of the device must not wait for that.
    async fn overtake(&mut self) -> Result<(), End> {
        let slow = self.flight.slow(Instant::now());
        if !slow.is_empty() {
            let overtaken = self.outbox.overtake(slow).await.map_err(End::Store)?;
            self.flight.overtaken(&overtaken);
        }
        Ok(())
    }

    async fn send_row(&mut self, row: Waiting) -> Result<(), End> {
        let Waiting { seq, message, .. } = row;
        self.send(&message).await?;
        let upstream = Upstream::parse(&message).ok();
        let report = matches!(upstream, Some(Upstream::TwinReport { .. } | Upstream::DeviceState { .. }));
        self.flight.sent(message.header.msg_id.clone(), seq, report, Instant::now());
        if !upstream.is_some_and(|upstream| upstream.is_answered()) {
            self.finish(&message.header.msg_id).await;
        }
        Ok(())
    }

    async fn finish(&mut self, id: &MessageId) {
        if let Some(seq) = self.flight.done(id) {
            // The receiving task ends only with this session.
            let _ = self.done.send(seq).await;
        }
    }

    async fn take_in(&mut self, message: Message) -> Result<(), End> {
        let msg_id = message.header.msg_id.clone();
        let received = match Received::parse(message) {
            Ok(received) => received,
            Err(error) => {
                let error = describe(&error);
                tracing::warn!(%msg_id, error, "unreadable message refused");
                let complaint = Upstream::Complaint { of: msg_id, text: error };
                return self.send(&complaint.to_message(daemon::clock::unix_ms())).await;
            }
        };
        let ack = received.wants_ack().then(|| received.message.ack(daemon::clock::unix_ms()));
        match received.body {
            Downstream::Put { .. } | Downstream::Remove { .. } => {
                if self.pending.len() >= MAX_PENDING {
                    return Err(End::Flooded(MAX_PENDING));
                }
                // Acknowledged by the commit task.
                let held = self.hold.take(self.receiver.held());
                self.pending.push_back(commit::Item { received, held });
                return Ok(());
            }
            Downstream::Reply { to, reply } => self.answered(&to, reply).await,
            Downstream::Confirmed { to } => {
                self.flight.heard(Instant::now());
                self.finish(&to).await;
                self.wake_outbox();
            }
            Downstream::Control => {
                let reply = received.message.control_reply(daemon::clock::unix_ms());
                return self.send(&reply).await;
            }
            Downstream::Volume(call) => {
                let content = Json::string("this node serves no storage calls");
                let VolumeCall { id: of, resource, .. } = call;
                let answer = Upstream::VolumeAnswer { of, resource, failed: true, content };
                return self.send(&answer.to_message(daemon::clock::unix_ms())).await;
            }
            // Membership follows from the device objects themselves.
            Downstream::Membership(_) | Downstream::MembershipList(_) => {}
            Downstream::Unsupported { route } => {
                tracing::debug!(
                    source = route.source,
                    operation = route.operation,
                    "message without a room dropped"
                );
            }
        }
        match ack {
            Some(ack) => self.send(&ack).await,
            None => Ok(()),
        }
    }

    async fn answered(&mut self, to: &MessageId, reply: Reply) {
        self.flight.heard(Instant::now());
        if let Some(call) = self.calls.remove(to) {
            // The caller may have given up.
            let _ = call.send(reply);
            return;
        }
        match reply {
            Reply::Refused(status) if status.is_retryable() => self.flight.postponed(to, Instant::now()),
            Reply::Refused(status) => {
                tracing::warn!(msg_id = %to, error = %status, "the cloud refused a message for good");
                self.finish(to).await;
                self.wake_outbox();
            }
            Reply::Done | Reply::Object(_) | Reply::Text(_) => {
                self.finish(to).await;
                self.wake_outbox();
            }
        }
    }

    /// An answer made room in the window; rows may be waiting for it.
    fn wake_outbox(&self) {
        self.outbox.wake();
    }
}
