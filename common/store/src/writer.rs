//! The writer thread: takes whatever writes are waiting, runs them in one transaction, commits once, and has the disk flushed
//! meanwhile (see [`crate::disk`]).

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use crate::StoreError;
use crate::disk::{self, Disk};
use crate::job::{Cleaning, Committed, Job, Shield};

/// Most writes one transaction takes, so that the first of them does not wait without bound.
const GROUP: usize = 128;

/// The writer thread.
pub(crate) fn run(connection: Connection, jobs: mpsc::Receiver<Job>, disk: Disk) {
    disk::or_end(|| run_jobs(connection, jobs, disk));
}

fn run_jobs(mut connection: Connection, mut jobs: mpsc::Receiver<Job>, mut disk: Disk) {
    loop {
        let mut group = Vec::new();
        if jobs.blocking_recv_many(&mut group, GROUP) == 0 {
            return;
        }
        let commit = commit_group(&mut connection, &mut group, &mut jobs, &mut disk);
        let cleaning = group.iter().filter_map(|job| job.run.cleaning()).max();
        let cleaned = cleaning.map_or(Ok(()), |how| clean(&connection, how));
        let is_alone = group.len() == 1 && jobs.is_empty();
        disk.settle(Committed { group, commit, cleaned }, is_alone);
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

/// Runs a group while the one before is flushed, then what came meanwhile, and commits.
fn commit_group(
    connection: &mut Connection,
    group: &mut Vec<Job>,
    jobs: &mut mpsc::Receiver<Job>,
    disk: &mut Disk,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let ran = transaction.map_err(StoreError::Commit).and_then(|transaction| {
        for job in group.iter_mut() {
            run_one(&transaction, job)?;
        }
        Ok(transaction)
    });
    disk.wait();
    disk.begin();
    let transaction = ran?;
    while group.len() < GROUP
        && let Ok(mut job) = jobs.try_recv()
    {
        let ran = run_one(&transaction, &mut job);
        group.push(job);
        ran?;
    }
    transaction.commit().map_err(StoreError::Commit)
}

/// Runs one job. Between SAVEPOINT and RELEASE one that failed is rolled back alone.
fn run_one(transaction: &Transaction<'_>, job: &mut Job) -> Result<(), StoreError> {
    let execute = |statement| transaction.prepare_cached(statement)?.execute([]);
    match job.run.shield() {
        Shield::None => {
            job.run.run(transaction);
            match job.run.failed() {
                true => {
                    Err(StoreError::SharedCommit { reason: "another write of the group failed".to_owned() })
                }
                false => Ok(()),
            }
        }
        Shield::Savepoint => {
            execute("SAVEPOINT job").map_err(StoreError::Commit)?;
            job.run.run(transaction);
            if job.run.failed() {
                execute("ROLLBACK TO job").map_err(StoreError::Commit)?;
            }
            execute("RELEASE job").map(drop).map_err(StoreError::Commit)
        }
    }
}
