//! Threads that rules run on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::budget::Budget;

/// Rules of one request.
const REQUEST: Duration = Duration::from_secs(1);
/// Compiling what a definition or a policy has.
const COMPILING: Duration = Duration::from_secs(10);
/// At once, of each kind.
const THREADS: usize = 4;
/// Parsing and evaluating recurse. Only what is touched takes memory.
const STACK: usize = 64 * 1024 * 1024;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    #[error("no thread was free for rules within {0:?}: other rules run too long; try again")]
    Busy(Duration),
    #[error("rule {0:?} did not end in time: simplify it, or make what it loops over smaller")]
    Slow(String),
    #[error("rule {0:?} failed in the server, which is an error of the server")]
    Failed(String),
    #[error("starting a thread for rules: {0}")]
    Thread(String),
}

/// Runs rules beside the tasks of the server. A rule that does not end costs one of four threads, until its next turn of a loop.
#[derive(Debug)]
pub struct Runner {
    evaluating: Arc<Semaphore>,
    compiling: Arc<Semaphore>,
}

impl Default for Runner {
    fn default() -> Runner {
        let turns = || Arc::new(Semaphore::new(THREADS));
        Runner { evaluating: turns(), compiling: turns() }
    }
}

impl Runner {
    /// What `work` makes of a request's objects.
    ///
    /// # Errors
    /// If it has no result within a second.
    pub async fn evaluate<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Budget>) -> T + Send + 'static,
    ) -> Result<T, Late> {
        run(&self.evaluating, REQUEST, work).await
    }

    /// What `work` makes of a definition or a policy.
    ///
    /// # Errors
    /// If it has no result within ten seconds.
    pub async fn compile<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Budget>) -> T + Send + 'static,
    ) -> Result<T, Late> {
        run(&self.compiling, COMPILING, work).await
    }
}

async fn run<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    time: Duration,
    work: impl FnOnce(&Arc<Budget>) -> T + Send + 'static,
) -> Result<T, Late> {
    // It is never closed.
    let turn = tokio::time::timeout(time, turns.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(Late::Busy(time)) };
    let budget = Budget::until(Instant::now() + time);
    let (answer, answered) = oneshot::channel();
    start(turn, budget.clone(), work, answer)?;
    let late = || Late::Slow(budget.rule());
    match tokio::time::timeout(time, answered).await {
        Ok(Ok(Some(result))) => Ok(result),
        Ok(Ok(None)) | Err(_) => Err(late()),
        Ok(Err(_)) => Err(Late::Failed(budget.rule())),
    }
}

fn start<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    budget: Arc<Budget>,
    work: impl FnOnce(&Arc<Budget>) -> T + Send + 'static,
    answer: oneshot::Sender<Option<T>>,
) -> Result<(), Late> {
    let thread = std::thread::Builder::new().name("rules".to_owned()).stack_size(STACK);
    let run = move || {
        // The thread keeps its turn until it ends, waited for or not.
        let _turn = turn;
        let result = work(&budget);
        // What is found after the end of the time may be wrong.
        let _ = answer.send(Some(result).filter(|_| !budget.is_spent()));
    };
    thread.spawn(run).map(drop).map_err(|error| Late::Thread(error.to_string()))
}
