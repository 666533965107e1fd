//! What a session does in either dialect: one task waits for everything at once and hands it to the dialect's half.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use link::{Outlet, ReceiveHalf, SendHalf};
use tokio::time::Instant;

use super::silence::Silence;
use super::{End, Session, leftover};
use crate::desired::NodeSet;

/// Messages waiting to be written before the node is read no further.
const OUTGOING: usize = 64;

/// One dialect's part of a session. None of its functions waits.
pub(super) trait Half: Send + Sized {
    type Sender: SendHalf;
    type Receiver: ReceiveHalf;
    /// Something the node asked for that ended.
    type Ended: Send + 'static;

    /// The session begins.
    fn begin(&mut self, shell: &mut Shell<'_, Self>);

    /// Starts what of the node's may be carried out.
    fn start(&mut self, shell: &mut Shell<'_, Self>);

    /// What is written next.
    fn next(&mut self, shell: &mut Shell<'_, Self>) -> Option<Outgoing<Self>>;

    /// Takes in what the node sent, of so many bytes.
    fn take_in(
        &mut self,
        incoming: <Self::Receiver as ReceiveHalf>::Item,
        bytes: usize,
        shell: &mut Shell<'_, Self>,
    ) -> Result<(), End>;

    /// Something that was [run](Shell::run) ended.
    fn on_ended(&mut self, ended: Self::Ended, shell: &mut Shell<'_, Self>);

    /// True if more may be held of what the node sends: it is held until it is carried out.
    fn has_room(&self) -> bool;

    /// How long the node may say nothing.
    fn patience(&self, keepalive: Duration) -> Duration;

    /// When [`Half::on_time`] is called.
    fn time(&self, set: &NodeSet) -> Option<Instant>;

    fn on_time(&mut self, shell: &mut Shell<'_, Self>);

    /// What is written when there is nothing else to write; waits until there is something. Cancel safe.
    fn spare(&mut self, session: &Session) -> impl Future<Output = Outgoing<Self>> + Send;

    /// True if what the node sent counts as its own: streams were asked for, and have credit of their own.
    fn is_charged(incoming: &<Self::Receiver as ReceiveHalf>::Item) -> bool;
}

/// What a dialect writes at once.
pub(super) type Outgoing<H> = <<H as Half>::Sender as SendHalf>::Item;

/// What a half works with.
pub(super) struct Shell<'a, H: Half> {
    pub session: &'a Session,
    pub set: &'a NodeSet,
    /// What is written before anything of the set.
    pub outgoing: VecDeque<Outgoing<H>>,
    pub silence: Silence,
    running: FuturesUnordered<BoxFuture<'static, H::Ended>>,
    /// Apart from what the node asked for: it holds nothing of the node's, and may take as long as an outage.
    leftovers: Option<BoxFuture<'static, ()>>,
}

impl<H: Half> Shell<'_, H> {
    /// Carries something out beside the session.
    pub(super) fn run(&self, work: impl Future<Output = H::Ended> + Send + 'static) {
        self.running.push(Box::pin(work));
    }

    /// Asks the API server about objects that the node has and nobody claims, if there are any.
    pub(super) fn settle_leftovers(&mut self) {
        if self.set.without_wake(|desired| desired.unclaimed()).is_empty() {
            return;
        }
        let session = self.session;
        let settling = leftover::settle(session.rooms.clone(), session.handle.node.clone(), self.set.clone());
        self.leftovers = Some(Box::pin(settling));
    }

    /// True while the API server is asked about them.
    pub(super) fn is_settling(&self) -> bool {
        self.leftovers.is_some()
    }
}

/// Runs until the connection or its node ends. `set` is filled.
pub(super) async fn run<H: Half>(
    session: &Session,
    set: &NodeSet,
    half: H,
    sender: H::Sender,
    receiver: H::Receiver,
) -> End {
    let mut outlet = Outlet::new(sender);
    let end = pump(session, set, half, &mut outlet, receiver).await;
    session.unsubscribe();
    session.handle.streams.close();
    outlet.close(session.close_reason(&end)).await;
    end
}

async fn pump<H: Half>(
    session: &Session,
    set: &NodeSet,
    mut half: H,
    outlet: &mut Outlet<H::Sender>,
    mut receiver: H::Receiver,
) -> End {
    let mut shell = Shell {
        session,
        set,
        outgoing: VecDeque::new(),
        silence: Silence::new(Instant::now() + session.keepalive),
        running: FuturesUnordered::new(),
        leftovers: None,
    };
    let ended = session.handle.ended.clone();
    let must_speak = !receiver.ends_silence();
    // The node has sent too much and is not read before.
    let mut waits: Option<Instant> = None;
    half.begin(&mut shell);
    loop {
        half.start(&mut shell);
        if outlet.is_idle()
            && let Some(item) = half.next(&mut shell)
        {
            outlet.send(item);
        }
        if set.is_node_deleted() {
            return End::NodeDeleted;
        }
        let patience = half.patience(session.keepalive);
        let may_read = shell.outgoing.len() < OUTGOING && waits.is_none() && half.has_room();
        shell.silence.reading(may_read, patience);
        let (time, has_nothing) = (half.time(set), outlet.is_idle() && shell.outgoing.is_empty());
        tokio::select! {
            biased;
            _ = ended.cancelled() => return End::Told,
            written = outlet.finished() => if let Err(error) = written { return error.into() },
            Some(ended) = shell.running.next(), if !shell.running.is_empty() => half.on_ended(ended, &mut shell),
            () = settled(&mut shell.leftovers) => shell.leftovers = None,
            incoming = receiver.next_item(), if may_read => {
                let bytes = receiver.held_bytes();
                if incoming.as_ref().map_or(true, H::is_charged) {
                    waits = session.note_sent(bytes);
                }
                let taken = match incoming {
                    Err(error) => Err(error.into()),
                    Ok(incoming) => half.take_in(incoming, bytes, &mut shell),
                };
                if let Err(end) = taken {
                    return end;
                }
            }
            _ = set.changed(), if outlet.is_idle() => {}
            _ = sleep_until(waits), if waits.is_some() => waits = None,
            _ = sleep_until(time) => half.on_time(&mut shell),
            _ = sleep_until(shell.silence.ends()), if must_speak => return End::Silent(patience),
            item = half.spare(session), if has_nothing => shell.outgoing.push_back(item),
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ends with what is under way, if anything is.
async fn settled(leftovers: &mut Option<BoxFuture<'static, ()>>) {
    match leftovers {
        Some(leftovers) => leftovers.await,
        None => std::future::pending().await,
    }
}
