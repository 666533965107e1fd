//! A session in the native dialect: the shell around [`Exchange`].

use std::collections::{HashMap, VecDeque};

use daemon::health::Beat;
use link::{CloseReason, FrameReceiver, FrameSender, IncomingFrame, Outlet, ReceiveError};
use message::{Downstream, MessageId, Received, Reply, Upstream};
use native::frames::Failed;
use native::frames::frame::Body;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::describe;
use super::super::exchange::{self, Effect, Exchange, Ticketed};
use super::super::hold::{Held, Hold};
use super::{DONE_QUEUE, End, SILENT_HEARTBEATS, Session, SessionTasks, remove_done};
use metamanager::cloud::Call;
use metamanager::intake::Intake;

/// Batches that may wait for the disk. The cloud sends no more than its window before acknowledgements.
const BATCHES: usize = 16;
/// Batches committed in one transaction.
const GROUP: usize = 8;
/// Frames waiting to be written before the link is read no further.
const OUTGOING: usize = 64;

/// Changes of one frame.
struct Batch {
    changes: Vec<Ticketed>,
    held: Held,
}

struct Pump<'a> {
    session: Session<'a>,
    exchange: Exchange,
    outgoing: VecDeque<Body>,
    /// Live requests by message id.
    calls: HashMap<MessageId, oneshot::Sender<Reply>>,
    next_call: u64,
    commits: mpsc::Sender<Batch>,
    hold: Hold,
    /// A batch the commit queue has no room for yet; nothing more is read until it has.
    pending: Option<Batch>,
    stored: mpsc::Receiver<Body>,
    done: mpsc::Sender<i64>,
    /// Rows may wait in the outbox.
    rows: bool,
    ping: bool,
}

pub(super) async fn run(sender: FrameSender, receiver: FrameReceiver, session: Session<'_>) -> End {
    let (commits, inbox) = mpsc::channel(BATCHES);
    let (acks, stored) = mpsc::channel(BATCHES);
    let mut aides = SessionTasks::default();
    aides.spawn(commit(session.intake.clone(), session.signs.commits.clone(), inbox, acks));
    let (done, finished) = mpsc::channel(DONE_QUEUE);
    aides.spawn(remove_done(session.outbox.clone(), finished));
    let mut outlet = Outlet::new(sender);
    let pump = Pump {
        session,
        exchange: Exchange::default(),
        outgoing: VecDeque::new(),
        calls: HashMap::new(),
        next_call: 0,
        commits,
        hold: Hold::new(),
        pending: None,
        stored,
        done,
        rows: true,
        ping: false,
    };
    let end = tokio::select! {
        biased;
        pumped = pump.pump(&mut outlet, receiver) => pumped.err().unwrap_or(End::Stopped),
        end = aides.ended() => end,
    };
    aides.leave();
    let reason = match &end {
        End::Receive(ReceiveError::TooLarge { .. }) => CloseReason::TooLarge,
        End::Receive(ReceiveError::NotAFrame(_)) | End::Violation(_) => CloseReason::NotAMessage,
        _ => CloseReason::Done,
    };
    outlet.close(reason).await;
    end
}

impl Pump<'_> {
    async fn pump(
        mut self,
        outlet: &mut Outlet<FrameSender>,
        mut receiver: FrameReceiver,
    ) -> Result<(), End> {
        self.greet().await?;
        // Since something was sent last.
        let mut heartbeat = tokio::time::interval(self.session.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let patience = self.session.heartbeat * SILENT_HEARTBEATS;
        let must_speak = !receiver.notices_silence();
        let mut heard = Instant::now();
        let (stop, outbox) = (self.session.stop.clone(), self.session.outbox.clone());
        let (commits, hold, beat) =
            (self.commits.clone(), self.hold.clone(), self.session.signs.link.clone());
        loop {
            if outlet.is_idle() {
                let _busy = beat.begin();
                self.write(outlet).await?;
            }
            let quiet = self.outgoing.len() < OUTGOING;
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                written = outlet.finished() => {
                    written?;
                    heartbeat.reset();
                }
                Some(stored) = self.stored.recv() => self.outgoing.push_front(stored),
                permit = commits.reserve(), if self.pending.is_some() => {
                    if let (Ok(permit), Some(batch)) = (permit, self.pending.take()) {
                        permit.send(batch);
                    }
                }
                _ = hold.room(), if hold.is_full() => {}
                incoming = receiver.next(), if self.pending.is_none() && quiet && !hold.is_full() => {
                    heard = Instant::now();
                    if let IncomingFrame::Frame(body) = incoming? {
                        self.session.metrics.received(receiver.held());
                        let _busy = beat.begin();
                        self.take_in(*body, receiver.held()).await?;
                    }
                }
                _ = heartbeat.tick(), if must_speak => self.ping = true,
                _ = tokio::time::sleep_until(heard + patience), if must_speak => return Err(End::Silent(patience)),
                Some(call) = self.session.calls.recv(), if quiet => self.start_call(call),
                _ = outbox.added() => self.rows = true,
            }
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        let objects = self.session.intake.objects();
        let store = objects.store_id().await.map_err(End::Store)?;
        let digests = objects.digests().await.map_err(End::Store)?;
        let heartbeat = u32::try_from(self.session.heartbeat.as_secs().max(1)).unwrap_or(u32::MAX);
        self.outgoing.push_back(exchange::hello(store, heartbeat, digests));
        Ok(())
    }

    /// Acknowledgements and live requests before rows; a ping when nothing else shows life.
    async fn write(&mut self, outlet: &mut Outlet<FrameSender>) -> Result<(), End> {
        if self.outgoing.is_empty() && self.rows && self.exchange.room().states > 0 {
            let (cursors, room) = (self.exchange.cursors, self.exchange.room());
            let rows = self.session.outbox.next_of_both(cursors, room).await.map_err(End::Store)?;
            // What found no room is read again when the cloud's answer makes some.
            self.rows = false;
            self.outgoing.extend(self.exchange.rows(rows));
        }
        if let Some(body) = self.outgoing.pop_front() {
            self.session.metrics.sent(body.encoded_len());
            outlet.send(body);
            self.ping = false;
        } else if std::mem::take(&mut self.ping) {
            outlet.ping();
        }
        Ok(())
    }

    fn start_call(&mut self, call: Call) {
        // Callers that gave up have closed their end.
        self.calls.retain(|_, answer| !answer.is_closed());
        self.next_call += 1;
        let id = MessageId(self.next_call.to_string());
        let message = Upstream::Ask(call.request).to_message(daemon::clock::unix_ms()).with_id(id.clone());
        self.calls.insert(id, call.answer);
        let call = self.exchange.call(&message);
        self.outgoing.push_back(call);
    }

    async fn take_in(&mut self, body: Body, bytes: usize) -> Result<(), End> {
        match self.exchange.on_frame(body)? {
            Effect::Welcomed { epoch } => tracing::debug!(epoch, "the cloud let this session in"),
            Effect::List(kinds) => {
                let held = self.session.intake.objects().held(kinds).await.map_err(End::Store)?;
                self.outgoing.extend(exchange::listed(held));
            }
            Effect::Commit(changes) => self.pending = Some(Batch { changes, held: self.hold.take(bytes) }),
            Effect::Finished(seqs) => {
                for seq in seqs {
                    // The receiving task ends only with this session.
                    let _ = self.done.send(seq).await;
                }
                self.rows = true;
            }
            Effect::Deliver(received) => self.deliver(*received),
            // The cloud said so after it heard of every commit.
            Effect::InStep => self.session.intake.in_step(),
        }
        Ok(())
    }

    fn deliver(&mut self, received: Received) {
        match received.body {
            Downstream::Reply { to, reply } => {
                if let Some(answer) = self.calls.remove(&to) {
                    // The caller may have given up.
                    let _ = answer.send(reply);
                }
            }
            Downstream::Unsupported { route } => {
                let (source, operation) = (route.source, route.operation);
                tracing::debug!(source, operation, "message without a room dropped");
            }
            // Membership follows from the device objects themselves.
            _ => {}
        }
    }
}

/// Commits batches in groups and tells how each group ended, until the session drops its end.
async fn commit(intake: Intake, beat: Beat, mut inbox: mpsc::Receiver<Batch>, outbox: mpsc::Sender<Body>) {
    let mut group = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut group, GROUP).await > 0 {
        let (batches, _held): (Vec<_>, Vec<_>) =
            group.drain(..).map(|batch| (batch.changes, batch.held)).unzip();
        let batch: Vec<Ticketed> = batches.into_iter().flatten().collect();
        let Some(through) = batch.last().map(|last| last.ticket) else { continue };
        let tickets: Vec<u64> = batch.iter().map(|change| change.ticket).collect();
        let arrivals = batch.into_iter().map(|change| change.arrival).collect();
        let busy = beat.begin();
        let committed = intake.commit(arrivals).await;
        drop(busy);
        let failed = match committed {
            Ok(missing) => missing
                .into_iter()
                .filter_map(|at| tickets.get(at))
                .map(|ticket| Failed { ticket: *ticket, base_missing: true, reason: String::new() })
                .collect(),
            Err(error) => {
                let reason = describe(&error);
                tracing::error!(error = reason, "objects not stored");
                let failed = |ticket| Failed { ticket, base_missing: false, reason: reason.clone() };
                tickets.into_iter().map(failed).collect()
            }
        };
        if outbox.send(exchange::committed(through, failed)).await.is_err() {
            return;
        }
    }
}
