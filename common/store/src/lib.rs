//! SQLite for daemons: one writer thread with group commit, a few pooled readers, migrations by `user_version`.
//!
//! Owns the database file. A write is answered only after its transaction is on disk, and so is a read of what it changed:
//! what a caller acknowledges afterwards survives a power cut. Writes that arrive while a transaction is open share its
//! commit; each runs in its own savepoint, so one that fails undoes only itself, unless it says that it needs none.

#![deny(clippy::missing_errors_doc)]

mod disk;
mod error;
mod job;
mod lock;
mod open;
mod readers;
mod rescue;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction};
use tokio::sync::mpsc;

pub use error::{OpenError, StoreError};
pub use lock::{FolderLock, lock};
pub use rescue::Recovery;
pub use rusqlite;

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// SQL scripts; script `n` takes the schema from version `n` to `n + 1`. Only ever appended to.
    pub migrations: &'static [&'static str],
    /// Page cache per connection, in KiB.
    pub cache_kib: u32,
    /// Pages (4 KiB) that the write-ahead log may hold before they go into the file: more, and pages that change often are written
    /// fewer times, with fewer waits for the disk.
    pub log_pages: u32,
    /// Connections that read while the writer writes.
    pub readers: usize,
    /// A table of databases without a version that are taken over: those of a predecessor.
    pub taken_over: Option<&'static str>,
    /// What is done about a damaged file and a disk that takes no writes.
    pub recovery: Recovery,
}

/// Handle of an open database; clones share it. The writer thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Inner,
}

#[derive(Clone)]
enum Inner {
    Disk {
        writes: mpsc::Sender<job::Job>,
        readers: Arc<readers::Readers>,
        progress: Arc<disk::Progress>,
    },
    /// The disk takes no writes: a copy in memory, for reading.
    Frozen {
        readers: Arc<readers::Readers>,
        _scratch: Arc<rescue::Scratch>,
    },
    /// One connection and no thread: its work is done where it is asked for.
    Memory(Arc<Mutex<Connection>>),
}

/// Writes that may wait. More would only hide a slow disk from its callers.
const WRITE_QUEUE: usize = 256;

impl Store {
    /// Opens (creating if missing, mode 0600) and migrates the database. Blocks; call before the runtime is busy.
    ///
    /// # Errors
    /// [`OpenError`]: the file cannot be opened, is damaged and not to be made anew, or is of a newer version or
    /// another program.
    pub fn open(path: &Path, options: &Options) -> Result<Store, OpenError> {
        let rescue::Opened { connection, path, scratch } = rescue::open(path, options)?;
        let readers = Arc::new(readers::Readers::open(&path, options)?);
        if let Some(scratch) = scratch {
            return Ok(Store { inner: Inner::Frozen { readers, _scratch: Arc::new(scratch) } });
        }
        let (writes, jobs) = mpsc::channel(WRITE_QUEUE);
        let progress = disk::Progress::new();
        let disk = disk::Disk::start(&path, progress.clone())?;
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(connection, jobs, disk))
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Store { inner: Inner::Disk { writes, readers, progress } })
    }

    /// True if the disk took no writes at the start: what was stored is read, writes are refused.
    pub fn is_frozen(&self) -> bool {
        matches!(self.inner, Inner::Frozen { .. })
    }

    /// Writes what the log holds into the file and empties it, once no reader needs it: nothing of what was deleted before
    /// is left on disk (rows are wiped as they are deleted).
    ///
    /// # Errors
    /// [`StoreError`]: the disk takes no writes, or the database is closed.
    pub async fn wipe(&self) -> Result<(), StoreError> {
        self.clean(job::Cleaning::Log).await
    }

    /// Like [`Store::wipe`], and writes every page anew: pages may hold copies of rows that SQLite has moved to others, and what
    /// was deleted while rows were not wiped. Takes memory and room on the disk as large as the database; to be done rarely.
    ///
    /// # Errors
    /// [`StoreError`]: the disk takes no writes or has no room, or the database is closed.
    pub async fn rewrite(&self) -> Result<(), StoreError> {
        self.clean(job::Cleaning::Pages).await
    }

    async fn clean(&self, how: job::Cleaning) -> Result<(), StoreError> {
        let Inner::Disk { writes, .. } = &self.inner else { return Ok(()) };
        let (job, answer) = job::Job::clean(how);
        writes.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Opens a database in memory, for thousands of them in one process. Durable until the last handle is dropped.
    ///
    /// # Errors
    /// [`OpenError`]: a migration failed.
    pub fn in_memory(options: &Options) -> Result<Store, OpenError> {
        let connection = open::memory(options)?;
        Ok(Store { inner: Inner::Memory(Arc::new(Mutex::new(connection))) })
    }

    /// Runs `work` in a transaction and returns its result once that is durable.
    ///
    /// # Errors
    /// [`StoreError`]: `work` failed, it could not be committed, or the database is closed. Nothing of it is stored
    /// then.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.write_then(work, |_| {}).await
    }

    /// Like [`Store::write`]; `after` runs on the writer thread right after the commit, in commit order, before the
    /// caller hears of it. It must not block.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::write`]'s; `after` does not run then.
    pub async fn write_then<T, F, A>(&self, work: F, after: A) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        self.write_shielded(job::Shield::Savepoint, work, after).await
    }

    /// Like [`Store::write_then`], for `work` that changes nothing if it finds that it must not: it has no savepoint, which costs a
    /// copy of each page that it is the first to change. If a statement of it fails or it panics, all writes that share its commit
    /// fail with it.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::write`]'s; `after` does not run then.
    pub async fn write_checked<T, F, A>(&self, work: F, after: A) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        self.write_shielded(job::Shield::None, work, after).await
    }

    async fn write_shielded<T, F, A>(&self, shield: job::Shield, work: F, after: A) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let writes = match &self.inner {
            Inner::Memory(connection) => return in_memory_write(connection, work, after),
            Inner::Disk { writes, .. } => writes,
            Inner::Frozen { .. } => return Err(StoreError::Frozen),
        };
        let (job, answer) = job::Job::new(shield, work, after);
        writes.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on a reader connection: a consistent snapshot that waits for no writer, only for the disk if it may hold what
    /// is not flushed yet.
    ///
    /// # Errors
    /// [`StoreError`]: `work` failed, or the database is closed.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let read = self.hand_over(work).await;
        self.settle().await;
        read
    }

    /// Like [`Store::read`], for `work` that looks up a few rows by an index: it is done on the thread that asks, since to hand it
    /// to another one takes several times as long. While all readers are lent, it is handed over.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::read`]'s.
    pub async fn look_up<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let read = self.peek(work).await;
        self.settle().await;
        read
    }

    /// Like [`Store::look_up`], for what a write is made of that follows: it may not be on disk yet, but is before that write is. Who answers without
    /// a write calls [`Store::settle`] first.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::read`]'s.
    pub async fn peek<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let done = match &self.inner {
            Inner::Disk { readers, .. } | Inner::Frozen { readers, .. } => readers.try_with(work),
            Inner::Memory(_) => Err(work),
        };
        match done {
            Ok(read) => checked(read),
            Err(work) => self.hand_over(work).await,
        }
    }

    async fn hand_over<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let readers = match &self.inner {
            Inner::Memory(connection) => {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                return work(&connection).map_err(StoreError::Statement);
            }
            Inner::Disk { readers, .. } | Inner::Frozen { readers, .. } => readers.clone(),
        };
        let read = tokio::task::spawn_blocking(move || readers.with(work)).await;
        checked(read.map_err(|_| StoreError::Closed)?)
    }

    /// Until all that a reader can have seen is on disk.
    pub async fn settle(&self) {
        if let Inner::Disk { progress, .. } = &self.inner {
            progress.settle().await;
        }
    }
}

/// Ends the process if it read what is damaged.
fn checked<T>(read: Result<T, StoreError>) -> Result<T, StoreError> {
    if let Err(error) = &read {
        job::end_if_damaged(error);
    }
    read
}

fn in_memory_write<T, F, A>(connection: &Mutex<Connection>, work: F, after: A) -> Result<T, StoreError>
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    A: FnOnce(&T),
{
    let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    let transaction = connection.transaction().map_err(StoreError::Commit)?;
    let value = work(&transaction).map_err(StoreError::Statement)?;
    transaction.commit().map_err(StoreError::Commit)?;
    after(&value);
    Ok(value)
}

#[cfg(test)]
mod tests;
