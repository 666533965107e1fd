//! One connection to the cloud, from upgrade to end, in the dialect both ends agreed on.

mod kubeedge;
mod native;
mod pump;

use std::path::Path;
use std::time::Duration;

use link::{Link, ReceiveError, SendError};
use message::NodeName;
use store::StoreError;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::exchange::Violation;
use super::{Asked, Metrics, Signs};
use metamanager::Outbox;
use metamanager::cloud::Call;
use metamanager::intake::Intake;

/// Silent heartbeats after which the link counts as dead: a ping goes with each and its answer is a sign of life.
const SILENT_HEARTBEATS: u32 = 2;

/// Rows whose removal may wait for the disk.
const DONE_QUEUE: usize = 256;

#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("no sign of life from the cloud within {0:?}")]
    Silent(Duration),
    #[error("stopping")]
    Stopped,
    #[error("the cloud sent {0} objects without waiting for acknowledgements")]
    Flooded(usize),
    #[error("reading the database")]
    Store(#[source] StoreError),
    #[error("a task of the session failed")]
    Task(#[source] JoinError),
    #[error("a task of the session ended before it")]
    TaskEnded,
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("streams")]
    Streams(#[from] streams::Violation),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Send(#[from] SendError),
}

impl End {
    /// True if the cloud ended the link on purpose.
    pub(crate) fn is_closed_by_cloud(&self) -> bool {
        matches!(self, End::Receive(ReceiveError::Closed | ReceiveError::Bye { .. }))
    }

    /// How long the cloud asked this edge to stay away.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            End::Receive(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// What a session works with.
pub(super) struct Session<'a> {
    pub node: &'a NodeName,
    pub heartbeat: Duration,
    pub intake: &'a Intake,
    pub outbox: &'a Outbox,
    pub calls: &'a mut mpsc::Receiver<Call>,
    /// Who wants streams to the API server.
    pub streams: &'a mut mpsc::Receiver<Asked>,
    /// Where streams lead.
    pub node_api: Option<&'a Path>,
    pub stop: CancellationToken,
    pub metrics: Metrics,
    pub signs: Signs,
}

/// Pumps until the link ends. Live requests without an answer fail when this returns.
pub(super) async fn run(link: Link, session: Session<'_>) -> End {
    match link {
        Link::KubeEdge(sender, receiver) => kubeedge::run(sender, receiver, session).await,
        Link::Native(sender, receiver) => native::run(sender, receiver, session).await,
    }
}

/// Tasks that work for a session off its path. Each lasts as long as the session: one that ends before it would leave a
/// link that looks alive and does nothing, so the session ends as well, and the next one begins them anew.
#[derive(Default)]
struct SessionTasks(JoinSet<()>);

impl SessionTasks {
    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work);
    }

    /// Resolves when one ends.
    async fn ended(&mut self) -> End {
        match self.0.join_next().await {
            Some(Err(error)) => End::Task(error),
            _ => End::TaskEnded,
        }
    }

    /// The session is over: they finish what they have.
    fn leave(mut self) {
        self.0.detach_all();
    }
}

/// Removes finished rows in groups, off the pump's path.
async fn remove_done(outbox: Outbox, mut finished: mpsc::Receiver<i64>) {
    let mut seqs = Vec::with_capacity(DONE_QUEUE);
    while finished.recv_many(&mut seqs, DONE_QUEUE).await > 0 {
        if let Err(error) = outbox.done(std::mem::take(&mut seqs)).await {
            // They will be sent once more; the cloud's answers are the same.
            tracing::error!(
                error = super::describe(&error),
                "sent messages could not be removed from the outbox"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_ends_its_session_and_one_that_works_does_not() {
        let mut tasks = SessionTasks::default();
        tasks.spawn(std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(10), tasks.ended()).await.is_err());
        tasks.spawn(async { panic!("a fault of a test") });
        assert!(matches!(tasks.ended().await, End::Task(error) if error.is_panic()));
    }
}
