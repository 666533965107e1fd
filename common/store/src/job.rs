//! One write, from its caller to the answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::Transaction;
use tokio::sync::oneshot;

use crate::StoreError;

/// One write: `run` does the statements, `finish` answers its caller.
pub(crate) struct Job {
    pub run: Box<dyn RunJob>,
}

pub(crate) trait RunJob: Send {
    fn run(&mut self, transaction: &Transaction<'_>);
    fn failed(&self) -> bool;
    fn shield(&self) -> Shield;
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
pub(crate) struct CommitFailure(StoreError);

/// What is undone if a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shield {
    /// The write alone. Pages that it is the first to change are copied for that.
    Savepoint,
    /// The group.
    None,
}

struct Work<T, F, A> {
    shield: Shield,
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

    fn shield(&self) -> Shield {
        self.shield
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

    fn shield(&self) -> Shield {
        Shield::None
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
    pub(crate) fn new<T, F, A>(
        shield: Shield,
        work: F,
        after: A,
    ) -> (Job, oneshot::Receiver<Result<T, StoreError>>)
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        (Job { run: Box::new(Work { shield, work: Some(work), after, result: None, answer }) }, receiver)
    }

    pub(crate) fn clean(how: Cleaning) -> (Job, oneshot::Receiver<Result<(), StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Job { run: Box::new(Clean { how, answer }) }, receiver)
    }
}

pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// A group after its commit, before its callers are answered.
pub(crate) struct Committed {
    pub group: Vec<Job>,
    pub commit: Result<(), StoreError>,
    pub cleaned: Result<(), StoreError>,
}

impl Committed {
    /// Answers the callers, in the order of their writes.
    pub(crate) fn answer(self) {
        let (mut commit, mut cleaned) = (self.commit.map_err(Some), self.cleaned.map_err(Some));
        for job in self.group {
            let cleans = job.run.cleaning().is_some();
            let outcome = match if cleans { &mut cleaned } else { &mut commit } {
                Ok(()) => Ok(()),
                Err(first) => Err(CommitFailure(first.take().unwrap_or_else(|| StoreError::SharedCommit {
                    reason: "see the first write of the group".to_owned(),
                }))),
            };
            job.run.finish(outcome);
        }
    }
}
