//! The native dialect's half of a session: the shell around [`Exchange`].

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::health::Beat;
use link::{FrameReceiver, FrameSender, IncomingFrame, SideStreams};
use message::{Downstream, Message, MessageId, Received};
use native::frames::Failed;
use native::frames::frame::Body;
use native::frames::stream_frame::What;
use streams::Mux;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::super::describe;
use super::super::exchange::{self, Effect, Exchange, TakesStreams, Ticketed};
use super::super::hold::Held;
use super::super::{Asked, NoStream};
use super::pump::{self, Commits, Half, Shell};
use super::{End, Session, SessionTasks};
use metamanager::intake::Intake;

/// Batches that may wait for the disk. The cloud sends no more than its window before acknowledgements.
const BATCHES: usize = 16;
/// The Node API is on this machine.
const CONNECT: Duration = Duration::from_secs(5);
/// Batches committed in one transaction.
const GROUP: usize = 8;

/// Changes of one frame.
struct Batch {
    changes: Vec<Ticketed>,
    held: Held,
}

struct Native {
    exchange: Exchange,
    /// Number of the last live request: its id.
    calls: u64,
    streams: Mux,
    /// The cloud connects streams that this edge opens; none: it has not said yet.
    cloud_takes_streams: Option<bool>,
    /// Takes streams beside the frames, for as long as the session lasts.
    beside: Option<AbortOnDropHandle<()>>,
}

pub(super) async fn run(sender: FrameSender, receiver: FrameReceiver, session: Session<'_>) -> End {
    let (queue, inbox) = mpsc::channel(BATCHES);
    let (outbox, answers) = mpsc::channel(BATCHES);
    let mut tasks = SessionTasks::default();
    tasks.spawn(commit(session.intake.clone(), session.signs.commits.clone(), inbox, outbox));
    let beside = session.node_api.zip(sender.side_streams()).map(|(socket, side)| {
        let accept = accept(side, socket.to_owned(), session.intake.clone());
        AbortOnDropHandle::new(tokio::spawn(accept))
    });
    let half = Native {
        exchange: Exchange::default(),
        calls: 0,
        streams: Mux::at(streams::End::Edge),
        cloud_takes_streams: None,
        beside,
    };
    pump::run(half, (sender, receiver), session, tasks, Commits { queue, answers }).await
}

impl Half for Native {
    type Sender = FrameSender;
    type Receiver = FrameReceiver;
    type Arrived = Batch;
    const SPEAKS_ALWAYS: bool = false;

    fn bytes(body: &Body) -> usize {
        body.encoded_len()
    }

    async fn begin(&mut self, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        let objects = shell.session.intake.objects();
        let store = objects.store_id().await.map_err(End::Store)?;
        let digests = objects.digests().await.map_err(End::Store)?;
        let heartbeat = u32::try_from(shell.session.heartbeat.as_secs().max(1)).unwrap_or(u32::MAX);
        let streams = match (&self.beside, shell.session.node_api) {
            (Some(_), _) => TakesStreams::Beside,
            (None, Some(_)) => TakesStreams::Frames,
            (None, None) => TakesStreams::None,
        };
        shell.outgoing.push_back(exchange::hello(store, heartbeat, digests, streams));
        Ok(())
    }

    fn may_read(&self, pending: usize) -> bool {
        pending == 0
    }

    fn has_room(&self) -> bool {
        self.exchange.room().states > 0
    }

    async fn add_rows(&mut self, shell: &mut Shell<'_, Self>) -> Result<(), End> {
        let (cursors, room) = (self.exchange.cursors, self.exchange.room());
        let rows = shell.session.outbox.next_of_both(cursors, room).await.map_err(End::Store)?;
        // What found no room is read again when the cloud's answer makes some.
        shell.rows = false;
        shell.outgoing.extend(self.exchange.rows(rows));
        Ok(())
    }

    fn on_write(&mut self, _: &Body) {}

    async fn on_written(&mut self, _: &mut Shell<'_, Self>) {}

    fn ask(&mut self, message: Message) -> (MessageId, Body) {
        self.calls += 1;
        let id = MessageId(self.calls.to_string());
        let call = self.exchange.call(&message.with_id(id.clone()));
        (id, call)
    }

    async fn take_in(
        &mut self,
        incoming: IncomingFrame,
        bytes: usize,
        shell: &mut Shell<'_, Self>,
    ) -> Result<(), End> {
        let IncomingFrame::Frame(body) = incoming else { return Ok(()) };
        shell.session.metrics.received(bytes);
        match self.exchange.on_frame(*body)? {
            Effect::Welcomed { epoch, takes_streams } => {
                self.cloud_takes_streams = Some(takes_streams);
                tracing::debug!(epoch, "the cloud let this session in");
            }
            Effect::List(kinds) => {
                let held = shell.session.intake.objects().held(kinds).await.map_err(End::Store)?;
                shell.outgoing.extend(exchange::listed(held));
            }
            Effect::Commit(changes) => {
                let held = shell.hold.take(bytes);
                shell.pending.push_back(Batch { changes, held });
            }
            Effect::Finished(seqs) => {
                for seq in seqs {
                    shell.finish(seq).await;
                }
                shell.rows = true;
            }
            Effect::Deliver(received) => deliver(*received, shell),
            Effect::Stream(frame) => {
                let socket = shell.session.node_api.map(Path::to_owned);
                if matches!(frame.what, Some(What::Open(_) | What::End(_) | What::Reset(_))) {
                    shell.session.intake.note_freed();
                }
                let answer = self.streams.take_in_and_connect(frame, || connect(socket))?;
                shell.outgoing.extend(answer.map(Body::Stream));
            }
            // The cloud said so after it heard of every commit.
            Effect::InStep => shell.session.intake.in_step(),
        }
        Ok(())
    }

    fn on_heartbeat(&mut self, shell: &mut Shell<'_, Self>) {
        shell.ping = true;
    }

    fn time(&self) -> Option<Instant> {
        None
    }

    async fn on_time(&mut self, _: &mut Shell<'_, Self>) -> Result<(), End> {
        Ok(())
    }

    fn may_open(&self) -> bool {
        self.cloud_takes_streams.is_some()
    }

    fn open(&mut self, asked: Asked) -> Option<Body> {
        if self.cloud_takes_streams != Some(true) {
            asked.answer(Err(NoStream::Unable));
            return None;
        }
        match self.streams.open() {
            Some((pipe, frame)) => {
                asked.answer(Ok(pipe));
                Some(Body::Stream(frame))
            }
            None => {
                asked.answer(Err(NoStream::TooMany));
                None
            }
        }
    }

    async fn spare(&mut self) -> Body {
        Body::Stream(self.streams.next().await)
    }
}

/// Connects streams that the cloud opens beside the frames, until the connection is gone.
async fn accept(side: SideStreams, socket: PathBuf, intake: Intake) {
    let mut carried = JoinSet::new();
    while let Ok(mut stream) = side.accept().await {
        // Those that ended.
        while carried.try_join_next().is_some() {}
        let (socket, intake) = (socket.clone(), intake.clone());
        carried.spawn(async move {
            let ended = match connect(Some(socket)).await {
                Ok(near) => streams::carry(near, &mut stream.receive, &mut stream.send).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(error = describe(&error), "a stream broke off");
                stream.abort();
            }
            intake.note_freed();
        });
    }
    // They end with the connection, of which the session hears by itself.
    while carried.join_next().await.is_some() {}
}

/// Connects a stream to this node's Node API.
async fn connect(socket: Option<PathBuf>) -> io::Result<UnixStream> {
    let socket = socket.ok_or_else(|| io::Error::other("this node serves no Node API"))?;
    match tokio::time::timeout(CONNECT, UnixStream::connect(&socket)).await {
        Ok(connected) => connected,
        Err(elapsed) => Err(elapsed.into()),
    }
}

fn deliver(received: Received, shell: &mut Shell<'_, Native>) {
    match received.body {
        Downstream::Reply { to, reply } => {
            // Nobody waits for it any more.
            let _ = shell.answer(&to, reply);
        }
        Downstream::Unsupported { route } => {
            let (source, operation) = (route.source, route.operation);
            tracing::debug!(source, operation, "message without a room dropped");
        }
        // Membership follows from the device objects themselves.
        _ => {}
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

#[cfg(test)]
mod tests;
