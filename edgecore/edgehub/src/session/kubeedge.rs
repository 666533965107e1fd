//! KubeEdge's dialect's half of a session: one envelope per message, acknowledged by id.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use link::{Incoming, Receiver, Sender};
use message::{Downstream, Json, Message, MessageId, Received, Reply, Upstream, VolumeCall};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::inflight::InFlight;
use super::super::{commit, describe};
use super::pump::{self, Commits, Half, Shell};
use super::{End, Session, SessionTasks};
use metamanager::outbox::Waiting;

/// Objects kept while the commit queue is full. A cloud that sends more without acknowledgements breaks the protocol.
const MAX_PENDING: usize = 4096;

/// How often reports without an answer are looked at, while there are any messages without one.
const LOOK: Duration = Duration::from_secs(1);

struct KubeEdge {
    flight: InFlight,
    /// Rows read and not sent yet.
    rows: VecDeque<Waiting>,
    /// Of messages that are not answered: they are done when they are written.
    unanswered: HashSet<MessageId>,
    writing: Option<MessageId>,
    /// When reports without an answer were looked at last.
    looked: Instant,
}

pub(super) async fn run(sender: Sender, receiver: Receiver, session: Session<'_>) -> End {
    let (queue, inbox) = mpsc::channel(commit::QUEUE);
    let (outbox, answers) = mpsc::channel(commit::QUEUE);
    let mut tasks = SessionTasks::default();
    let into = (session.intake.clone(), session.node.clone());
    tasks.spawn(commit::run(into, session.signs.commits.clone(), inbox, outbox));
    let half = KubeEdge {
        flight: InFlight::default(),
        rows: VecDeque::new(),
        unanswered: HashSet::new(),
        writing: None,
        looked: Instant::now(),
    };
    pump::run(half, (sender, receiver), session, tasks, Commits { queue, answers }).await
}

impl Half for KubeEdge {
    type Sender = Sender;
    type Receiver = Receiver;
    type Arrived = commit::Item;
    const SPEAKS_ALWAYS: bool = true;

    fn bytes(message: &Message) -> usize {
        message.content.text().len()
    }

    async fn begin(&mut self, _: &mut Shell<'_, Self>) -> Result<(), End> {
        Ok(())
    }

    /// Acknowledgements are read while objects wait for the disk.
    fn may_read(&self, _: usize) -> bool {
        true
    }

    fn has_room(&self) -> bool {
        !self.rows.is_empty() || self.flight.room() > 0
    }

    /// One at a time: the wait for its answer begins when it is written.
    async fn add_rows(&mut self, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        if self.rows.is_empty() {
            let (cursor, room) = (self.flight.cursor, self.flight.room());
            self.rows.extend(shell.session.outbox.next(cursor, room).await.map_err(End::Store)?);
        }
        match self.rows.pop_front() {
            Some(row) => self.send_row(row, shell),
            None => shell.rows = false,
        }
        Ok(())
    }

    fn on_write(&mut self, message: &Message) {
        self.writing = self.unanswered.take(&message.header.msg_id);
    }

    async fn on_written(&mut self, shell: &mut Shell<'_, Self>) {
        if let Some(id) = self.writing.take() {
            self.finish(&id, shell).await;
        }
    }

    fn ask(&mut self, message: Message) -> (MessageId, Message) {
        (message.header.msg_id.clone(), message)
    }

    async fn take_in(
        &mut self,
        incoming: Incoming,
        bytes: usize,
        shell: &mut Shell<'_, Self>,
    ) -> Result<(), End> {
        let Incoming::Message(message) = incoming else { return Ok(()) };
        shell.session.metrics.received(message.content.text().len());
        let msg_id = message.header.msg_id.clone();
        let now = daemon::clock::unix_ms();
        let received = match Received::parse(*message) {
            Ok(received) => received,
            Err(error) => {
                let error = describe(&error);
                tracing::warn!(%msg_id, error, "unreadable message refused");
                let complaint = Upstream::Complaint { of: msg_id, text: error };
                shell.outgoing.push_back(complaint.to_message(now));
                return Ok(());
            }
        };
        let ack = received.wants_ack().then(|| received.message.ack(now));
        match received.body {
            Downstream::Put { .. } | Downstream::Remove { .. } => {
                if shell.pending.len() >= MAX_PENDING {
                    return Err(End::Flooded(MAX_PENDING));
                }
                // Acknowledged by the commit task.
                let held = shell.hold.take(bytes);
                shell.pending.push_back(commit::Item { received, held });
                return Ok(());
            }
            Downstream::Reply { to, reply } => self.answered(&to, reply, shell).await,
            Downstream::Confirmed { to } => {
                self.flight.heard(Instant::now());
                self.finish(&to, shell).await;
            }
            Downstream::Control => {
                shell.outgoing.push_back(received.message.control_reply(now));
                return Ok(());
            }
            Downstream::Volume(call) => {
                let content = Json::string("this node serves no storage calls");
                let VolumeCall { id: of, resource, .. } = call;
                let answer = Upstream::VolumeAnswer { of, resource, failed: true, content };
                shell.outgoing.push_back(answer.to_message(now));
                return Ok(());
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
        shell.outgoing.extend(ack);
        Ok(())
    }

    fn on_heartbeat(&mut self, shell: &mut Shell<'_, Self>) {
        shell.outgoing.push_back(Upstream::Keepalive.to_message(daemon::clock::unix_ms()));
        shell.ping = true;
    }

    fn time(&self) -> Option<Instant> {
        let look = (!self.flight.is_empty()).then(|| self.looked + LOOK);
        self.flight.next_deadline().into_iter().chain(look).min()
    }

    async fn on_time(&mut self, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        let now = Instant::now();
        if self.flight.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.send_again(shell).await?;
        }
        if now >= self.looked + LOOK {
            self.looked = now;
            self.overtake(shell).await?;
        }
        Ok(())
    }
}

impl KubeEdge {
    fn send_row(&mut self, row: Waiting, shell: &mut Shell<'_, Self>) {
        let Waiting { seq, message, .. } = row;
        let id = message.header.msg_id.clone();
        let upstream = Upstream::parse(&message).ok();
        let report = matches!(upstream, Some(Upstream::TwinReport { .. } | Upstream::DeviceState { .. }));
        shell.outgoing.push_back(message);
        if !upstream.is_some_and(|upstream| upstream.is_answered()) {
            self.unanswered.insert(id.clone());
        }
        self.flight.sent(id, seq, report, Instant::now());
    }

    async fn send_again(&mut self, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        let due = self.flight.due(Instant::now());
        if !due.given_up.is_empty() {
            tracing::warn!(reports = due.given_up.len(), "reports given up: the cloud passes them over");
        }
        for seq in due.given_up {
            shell.finish(seq).await;
        }
        for seq in due.again {
            // The row may be gone or replaced by a newer one, which is sent in its own turn.
            let rows = shell.session.outbox.next(seq - 1, 1).await.map_err(End::Store)?;
            match rows.into_iter().find(|row| row.seq == seq) {
                Some(row) => self.send_row(row, shell),
                None => self.flight.forget(seq),
            }
        }
        shell.rows = true;
        Ok(())
    }

    /// A Go cloud says nothing to a report it could not write: the next one of the device must not wait for that.
    async fn overtake(&mut self, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        let slow = self.flight.slow(Instant::now());
        if !slow.is_empty() {
            let overtaken = shell.session.outbox.overtake(slow).await.map_err(End::Store)?;
            self.flight.overtaken(&overtaken);
            shell.rows = true;
        }
        Ok(())
    }

    /// The message is done; there is room for another row.
    async fn finish(&mut self, id: &MessageId, shell: &mut Shell<'_, Self>) {
        if let Some(seq) = self.flight.done(id) {
            shell.finish(seq).await;
        }
        shell.rows = true;
    }

    async fn answered(&mut self, to: &MessageId, reply: Reply, shell: &mut Shell<'_, Self>) {
        self.flight.heard(Instant::now());
        match shell.answer(to, reply) {
            None => {}
            Some(Reply::Refused(status)) if status.is_retryable() => {
                self.flight.postponed(to, Instant::now());
            }
            Some(Reply::Refused(status)) => {
                tracing::warn!(msg_id = %to, error = %status, "the cloud refused a message for good");
                self.finish(to, shell).await;
            }
            Some(Reply::Done | Reply::Object(_) | Reply::Text(_)) => self.finish(to, shell).await,
        }
    }
}

#[cfg(test)]
mod tests;
