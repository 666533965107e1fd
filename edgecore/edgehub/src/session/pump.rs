//! What a session does in either dialect: one task waits for everything at once and hands it to the dialect's half. Writes
//! run beside reads, so that two ends never wait for each other to read.

use std::collections::{HashMap, VecDeque};

use link::{CloseReason, Outlet, ReceiveError, ReceiveHalf, SendHalf};
use message::{Message, MessageId, Reply};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::hold::Hold;
use super::super::{Asked, NoStream};
use super::{DONE_QUEUE, End, SILENT_HEARTBEATS, Session, SessionTasks, remove_done};
use metamanager::cloud::Call;

/// Messages waiting to be written before the link is read no further.
const OUTGOING: usize = 64;

/// One dialect's part of a session. What its functions wait for is the node's own database.
pub(super) trait Half: Send + Sized {
    type Sender: SendHalf;
    type Receiver: ReceiveHalf;
    /// Received objects, on their way to the task that commits them.
    type Arrived: Send;
    /// A keepalive and a ping go out at each heartbeat. Otherwise a ping does when nothing else was sent, unless the
    /// transport keeps itself alive.
    const SPEAKS_ALWAYS: bool;

    /// What is counted of a message.
    fn bytes(item: &Written<Self>) -> usize;

    /// The session begins.
    fn begin(&mut self, shell: &mut Shell<'_, Self>) -> impl Future<Output = Result<(), End>> + Send;

    /// True if more received objects may wait for the commit queue.
    fn may_read(&self, pending: usize) -> bool;

    /// True if a row of the outbox may be sent now.
    fn has_room(&self) -> bool;

    /// Puts rows of the outbox among what is written, or notes that there are none.
    fn add_rows(&mut self, shell: &mut Shell<'_, Self>) -> impl Future<Output = Result<(), End>> + Send;

    /// The item is being written.
    fn on_write(&mut self, item: &Written<Self>);

    /// What was being written is on its way.
    fn on_written(&mut self, shell: &mut Shell<'_, Self>) -> impl Future<Output = ()> + Send;

    /// A live request, and the id its answer will name.
    fn ask(&mut self, message: Message) -> (MessageId, Written<Self>);

    /// Takes in what the cloud sent, of so many bytes.
    fn take_in(
        &mut self,
        incoming: <Self::Receiver as ReceiveHalf>::Item,
        bytes: usize,
        shell: &mut Shell<'_, Self>,
    ) -> impl Future<Output = Result<(), End>> + Send;

    /// It is time for a sign of life.
    fn on_heartbeat(&mut self, shell: &mut Shell<'_, Self>);

    /// When [`Half::on_time`] is called.
    fn time(&self) -> Option<Instant>;

    fn on_time(&mut self, shell: &mut Shell<'_, Self>) -> impl Future<Output = Result<(), End>> + Send;

    /// It is known whether the cloud takes streams; until then those who ask for one wait.
    fn may_open(&self) -> bool {
        true
    }

    /// Opens a stream to the API server: the frame that tells the cloud, unless the stream is refused.
    fn open(&mut self, asked: Asked) -> Option<Written<Self>> {
        asked.answer(Err(NoStream::Unable));
        None
    }

    /// What is written when there is nothing else to write; waits until there is something. Cancel safe.
    fn spare(&mut self) -> impl Future<Output = Written<Self>> + Send {
        std::future::pending()
    }
}

/// What a dialect writes at once.
pub(super) type Written<H> = <<H as Half>::Sender as SendHalf>::Item;

/// What a half works with.
pub(super) struct Shell<'a, H: Half> {
    pub session: Session<'a>,
    pub outgoing: VecDeque<Written<H>>,
    /// Received objects the commit queue has no room for yet.
    pub pending: VecDeque<H::Arrived>,
    pub hold: Hold,
    /// Rows may wait in the outbox.
    pub rows: bool,
    pub ping: bool,
    /// Live requests by message id.
    calls: HashMap<MessageId, oneshot::Sender<Reply>>,
    done: mpsc::Sender<i64>,
}

/// The task that commits what arrives, and tells how that ended.
pub(super) struct Commits<H: Half> {
    pub queue: mpsc::Sender<H::Arrived>,
    pub answers: mpsc::Receiver<Written<H>>,
}

impl<H: Half> Shell<'_, H> {
    /// The row is sent and answered.
    pub(super) async fn finish(&self, seq: i64) {
        // The receiving task ends only with this session.
        let _ = self.done.send(seq).await;
    }

    /// Hands an answer to who asked; gives it back if nobody here did.
    pub(super) fn answer(&mut self, to: &MessageId, reply: Reply) -> Option<Reply> {
        let Some(call) = self.calls.remove(to) else { return Some(reply) };
        // The caller may have given up.
        let _ = call.send(reply);
        None
    }

    fn start_call(&mut self, half: &mut H, call: Call) {
        // Callers that gave up have closed their end.
        self.calls.retain(|_, answer| !answer.is_closed());
        let (id, item) = half.ask(call.upstream.to_message(daemon::clock::unix_ms()));
        self.calls.insert(id, call.answer);
        self.outgoing.push_back(item);
    }
}

/// Runs until the link ends. Live requests without an answer fail when this returns.
pub(super) async fn run<H: Half>(
    half: H,
    halves: (H::Sender, H::Receiver),
    session: Session<'_>,
    mut tasks: SessionTasks,
    commits: Commits<H>,
) -> End {
    let (done, finished) = mpsc::channel(DONE_QUEUE);
    tasks.spawn(remove_done(session.outbox.clone(), finished));
    let mut outlet = Outlet::new(halves.0);
    let shell = Shell {
        session,
        outgoing: VecDeque::new(),
        pending: VecDeque::new(),
        hold: Hold::new(),
        rows: true,
        ping: false,
        calls: HashMap::new(),
        done,
    };
    let end = tokio::select! {
        biased;
        pumped = pump(half, shell, &mut outlet, halves.1, commits) => pumped.err().unwrap_or(End::Stopped),
        end = tasks.ended() => end,
    };
    tasks.leave();
    let reason = match &end {
        End::Receive(ReceiveError::TooLarge { .. }) => CloseReason::TooLarge,
        End::Receive(ReceiveError::NotAFrame(_) | ReceiveError::NotAMessage(_))
        | End::Violation(_)
        | End::Streams(_) => CloseReason::NotAMessage,
        _ => CloseReason::Done,
    };
    outlet.close(reason).await;
    end
}

async fn pump<H: Half>(
    mut half: H,
    mut shell: Shell<'_, H>,
    outlet: &mut Outlet<H::Sender>,
    mut receiver: H::Receiver,
    mut commits: Commits<H>,
) -> Result<(), End> {
    half.begin(&mut shell).await?;
    // Since something was sent last, unless the dialect speaks always.
    let mut heartbeat = tokio::time::interval(shell.session.heartbeat);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = shell.session.heartbeat * SILENT_HEARTBEATS;
    let must_speak = H::SPEAKS_ALWAYS || !receiver.ends_silence();
    let mut heard = Instant::now();
    let (stop, outbox) = (shell.session.stop.clone(), shell.session.outbox.clone());
    let (hold, beat) = (shell.hold.clone(), shell.session.signs.link.clone());
    loop {
        if outlet.is_idle() {
            let _busy = beat.begin();
            write(&mut half, &mut shell, outlet).await?;
        }
        let is_quiet = shell.outgoing.len() < OUTGOING;
        let (time, has_nothing) = (half.time(), outlet.is_idle() && shell.outgoing.is_empty());
        let may_read = is_quiet && half.may_read(shell.pending.len()) && !hold.is_full();
        tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            written = outlet.finished() => {
                written?;
                half.on_written(&mut shell).await;
                if !H::SPEAKS_ALWAYS {
                    heartbeat.reset();
                }
            }
            Some(answer) = commits.answers.recv() => shell.outgoing.push_front(answer),
            permit = commits.queue.reserve(), if !shell.pending.is_empty() => {
                if let (Ok(permit), Some(arrived)) = (permit, shell.pending.pop_front()) {
                    permit.send(arrived);
                }
            }
            _ = hold.room(), if hold.is_full() => {}
            incoming = receiver.next_item(), if may_read => {
                heard = Instant::now();
                let (incoming, bytes) = (incoming?, receiver.held_bytes());
                let _busy = beat.begin();
                half.take_in(incoming, bytes, &mut shell).await?;
            }
            _ = heartbeat.tick(), if must_speak => half.on_heartbeat(&mut shell),
            _ = tokio::time::sleep_until(heard + patience), if must_speak => return Err(End::Silent(patience)),
            Some(call) = shell.session.calls.recv(), if is_quiet => shell.start_call(&mut half, call),
            Some(asked) = shell.session.streams.recv(), if is_quiet && half.may_open() => shell.outgoing.extend(half.open(asked)),
            _ = outbox.added() => shell.rows = true,
            _ = sleep_until(time) => {
                let _busy = beat.begin();
                half.on_time(&mut shell).await?;
            }
            item = half.spare(), if has_nothing => shell.outgoing.push_back(item),
        }
    }
}

/// Acknowledgements and live requests before rows; a ping when nothing else shows life.
async fn write<H: Half>(
    half: &mut H,
    shell: &mut Shell<'_, H>,
    outlet: &mut Outlet<H::Sender>,
) -> Result<(), End> {
    if H::SPEAKS_ALWAYS && std::mem::take(&mut shell.ping) {
        outlet.ping();
        return Ok(());
    }
    if shell.outgoing.is_empty() && shell.rows && half.has_room() {
        half.add_rows(shell).await?;
    }
    if let Some(item) = shell.outgoing.pop_front() {
        shell.session.metrics.sent(H::bytes(&item));
        half.on_write(&item);
        outlet.send(item);
        shell.ping = false;
    } else if std::mem::take(&mut shell.ping) {
        outlet.ping();
    }
    Ok(())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
