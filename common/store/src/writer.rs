//! The writer thread: takes whatever writes are waiting, runs each in a savepoint of one transaction, commits once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::StoreError;

/// Most writes one transaction takes, so that the first of them does not wait without bound.
const GROUP: usize = 128;

/// One write: `run` does the statements, `finish` answers its caller.
pub(crate) struct Job {
    run: Box<dyn RunJob>,
}

trait RunJob: Send {
    fn run(&mut self, transaction: &Transaction<'_>);
    fn failed(&self) -> bool;
    /// What is done to the files after the commit.
    fn cleaning(&self) -> Option<Cleaning>;
    fn finish(self: Box<Self>, commit: Result<(), CommitFailure>);
}

/// How files are cleaned of what was deleted; the latter does more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cleaning {
    /// The log is emptied.
    Log,
    /// All pages are written anew, then the log is emptied.
    Pages,
}

/// What the callers that shared a failed commit are told.
struct CommitFailure(StoreError);

struct Work<T, F, A> {
    work: Option<F>,
    after: A,
    result: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F, A> RunJob for Work<T, F, A>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) {
        let Some(work) = self.work.take() else { return };
        // What a broken job did to the database is undone with its savepoint, and the job itself is gone.
        let ran = catch_unwind(AssertUnwindSafe(|| work(transaction)));
        self.result = Some(match ran {
            Ok(result) => result.map_err(StoreError::Statement),
            Err(panic) => Err(StoreError::Panicked(panic_text(&*panic).to_owned())),
        });
    }

    fn failed(&self) -> bool {
        !matches!(self.result, Some(Ok(_)))
    }

    fn cleaning(&self) -> Option<Cleaning> {
        None
    }

    fn finish(self: Box<Self>, commit: Result<(), CommitFailure>) {
        let result = match (self.result, commit) {
            (Some(Ok(value)), Ok(())) => {
                (self.after)(&value);
                Ok(value)
            }
            (Some(Err(error)), _) => Err(error),
            (_, Err(CommitFailure(error))) => Err(error),
            (None, _) => Err(StoreError::Closed),
        };
        if let Err(error) = &result {
            end_if_damaged(error);
        }
        // A caller that stopped waiting does not need the answer.
        let _ = self.answer.send(result);
    }
}

/// Does nothing in the transaction; the files are cleaned after it.
struct Clean {
    how: Cleaning,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl RunJob for Clean {
    fn run(&mut self, _: &Transaction<'_>) {}

    fn failed(&self) -> bool {
        false
    }

    fn cleaning(&self) -> Option<Cleaning> {
        Some(self.how)
    }

    fn finish(self: Box<Self>, commit: Result<(), CommitFailure>) {
        let _ = self.answer.send(commit.map_err(|CommitFailure(error)| error));
    }
}

/// A damaged database ends the process: the next start finds the damage and deals with it.
pub(crate) fn end_if_damaged(error: &StoreError) {
    if error.is_damage() {
        tracing::error!(error = %error, "the database is damaged, the process ends");
        std::process::exit(1);
    }
}

impl Job {
    pub(crate) fn new<T, F, A>(work: F, after: A) -> (Job, oneshot::Receiver<Result<T, StoreError>>)
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        (Job { run: Box::new(Work { work: Some(work), after, result: None, answer }) }, receiver)
    }

    pub(crate) fn clean(how: Cleaning) -> (Job, oneshot::Receiver<Result<(), StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Job { run: Box::new(Clean { how, answer }) }, receiver)
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// The writer thread. Should it fail itself, between a commit and what follows from it, the process ends: what is on disk
/// would not be what the program believes.
pub(crate) fn run(connection: Connection, jobs: mpsc::Receiver<Job>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run_jobs(connection, jobs))) {
        let error = panic_text(&*panic);
        tracing::error!(error, "the database writer failed, the process ends");
        std::process::exit(1);
    }
}

fn run_jobs(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut outcome = commit_group(&mut connection, &mut group).map_err(Some);
        let cleaning = group.iter().filter_map(|job| job.run.cleaning()).max();
        let mut cleaned = cleaning.map_or(Ok(()), |how| clean(&connection, how)).map_err(Some);
        for job in group.drain(..) {
            let cleans = job.run.cleaning().is_some();
            let commit = match if cleans { &mut cleaned } else { &mut outcome } {
                Ok(()) => Ok(()),
                Err(first) => Err(CommitFailure(first.take().unwrap_or_else(|| StoreError::SharedCommit {
                    reason: "see the first write of the group".to_owned(),
                }))),
            };
            job.run.finish(commit);
        }
    }
}

fn clean(connection: &Connection, how: Cleaning) -> Result<(), StoreError> {
    if how == Cleaning::Pages {
        connection.execute_batch("VACUUM").map_err(StoreError::Commit)?;
    }
    empty_log(connection)
}

/// Readers hold the log for the moment of a statement; the busy timeout waits for them.
fn empty_log(connection: &Connection) -> Result<(), StoreError> {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match busy.map_err(StoreError::Commit)? {
        0 => Ok(()),
        _ => Err(StoreError::SharedCommit { reason: "readers hold the log".to_owned() }),
    }
}

fn commit_group(connection: &mut Connection, group: &mut [Job]) -> Result<(), StoreError> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::Commit)?;
    for job in group.iter_mut() {
        run_in_savepoint(&transaction, job)?;
    }
    transaction.commit().map_err(StoreError::Commit)
}

/// Runs one job between SAVEPOINT and RELEASE; a job that failed is rolled back alone.
fn run_in_savepoint(transaction: &Transaction<'_>, job: &mut Job) -> Result<(), StoreError> {
    let execute = |statement| transaction.prepare_cached(statement)?.execute([]);
    execute("SAVEPOINT job").map_err(StoreError::Commit)?;
    job.run.run(transaction);
    if job.run.failed() {
        execute("ROLLBACK TO job").map_err(StoreError::Commit)?;
    }
    execute("RELEASE job").map(drop).map_err(StoreError::Commit)
}
