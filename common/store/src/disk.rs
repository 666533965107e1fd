//! Waiting for the disk: what is committed is flushed by a thread of its own, while the writer prepares the next group.
//!
//! ```text
//! writer: run jobs of group 2 | wait for the flush of group 1 | run what came meanwhile, commit group 2 | hand over | ...
//! disk:   flush group 1, answer its callers                                                 | flush group 2, answer | ...
//! ```
//!
//! SQLite itself waits for the disk within COMMIT (`synchronous=FULL`), and a writer thread with it. Here it writes the log
//! (`synchronous=NORMAL`), and its file is flushed before anyone hears of the commit: those who wrote, and those who read what it
//! changed. Checkpoints flush by themselves, in their order.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use tokio::sync::watch;

use crate::OpenError;
use crate::job::Committed;

/// Which groups of writes are on disk. Numbers grow from 1.
pub(crate) struct Progress {
    /// The last that is committed, or about to be: readers may see it.
    begun: AtomicU64,
    flushed: watch::Sender<u64>,
    /// The last whose callers were answered.
    answered: AtomicU64,
}

impl Progress {
    pub(crate) fn new() -> Arc<Progress> {
        Arc::new(Progress {
            begun: AtomicU64::new(0),
            flushed: watch::Sender::new(0),
            answered: AtomicU64::new(0),
        })
    }

    /// Until everything that a reader can have seen is on disk.
    pub(crate) async fn settle(&self) {
        let seen = self.begun.load(Ordering::SeqCst);
        if *self.flushed.borrow() < seen {
            // An error is the end of the sender, which `self` holds.
            let _ = self.flushed.subscribe().wait_for(|flushed| *flushed >= seen).await;
        }
    }

    /// Flushes, calls `then`, and answers the callers.
    fn settle_group(&self, log: &File, number: u64, group: Committed, then: impl FnOnce()) {
        flush(log);
        self.flushed.send_replace(number);
        then();
        group.answer();
        self.answered.store(number, Ordering::SeqCst);
    }
}

/// The writer's side of the thread that flushes.
pub(crate) struct Disk {
    log: Arc<File>,
    progress: Arc<Progress>,
    groups: mpsc::SyncSender<(u64, Committed)>,
    flushed: mpsc::Receiver<()>,
    is_busy: bool,
    last: u64,
}

impl Disk {
    /// Starts the thread, for the database at `path`, which has been read.
    pub(crate) fn start(path: &Path, progress: Arc<Progress>) -> Result<Disk, OpenError> {
        let log = Arc::new(open_log(path)?);
        let (groups, handed) = mpsc::sync_channel(1);
        let (tell, flushed) = mpsc::sync_channel(1);
        let (file, reached) = (log.clone(), progress.clone());
        std::thread::Builder::new()
            .name("store-disk".to_owned())
            .spawn(move || or_end(|| run(&file, &handed, &tell, &reached)))
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Disk { log, progress, groups, flushed, is_busy: false, last: 0 })
    }

    /// Waits for the flush of the group before.
    pub(crate) fn wait(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            let _ = self.flushed.recv();
        }
    }

    /// To be called before a commit: from now on readers may see it.
    pub(crate) fn begin(&mut self) {
        self.last += 1;
        self.progress.begun.store(self.last, Ordering::SeqCst);
    }

    /// Has a group flushed and its callers answered. One write without others is not handed to the thread, whose turn would take
    /// longer.
    pub(crate) fn settle(&mut self, group: Committed, is_alone: bool) {
        let is_next = self.progress.answered.load(Ordering::SeqCst) + 1 == self.last;
        if is_alone && is_next {
            return self.progress.settle_group(&self.log, self.last, group, || {});
        }
        self.is_busy = self.groups.send((self.last, group)).is_ok();
        assert!(self.is_busy, "the thread that flushes has ended");
    }
}

fn run(
    log: &File,
    groups: &mpsc::Receiver<(u64, Committed)>,
    tell: &mpsc::SyncSender<()>,
    progress: &Progress,
) {
    while let Ok((number, group)) = groups.recv() {
        // The writer may have ended: this was the last group.
        let then = || {
            let _ = tell.send(());
        };
        progress.settle_group(log, number, group, then);
    }
}

/// After a failed flush nobody can say what of it is on disk, and asking again says that all is well. The process ends; the next
/// start reads what is there.
fn flush(log: &File) {
    if let Err(error) = log.sync_data() {
        tracing::error!(error = %error, "the disk did not take what was written to the database's log, the process ends");
        std::process::exit(1);
    }
}

/// Runs a thread of the store. Should it fail itself, the process ends: what is on disk would not be what the program
/// believes.
pub(crate) fn or_end(work: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        let error = crate::job::panic_text(&*panic);
        tracing::error!(error, "the database writer failed, the process ends");
        std::process::exit(1);
    }
}

/// The write-ahead log, which SQLite made as it opened the database and keeps until it closes it. Its name is made durable too.
fn open_log(path: &Path) -> Result<File, OpenError> {
    let path = crate::rescue::with_suffix(path, "-wal");
    let opened = || {
        let log = File::open(&path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(log)
    };
    opened().map_err(|source| OpenError::Create { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::process::Command;
    use std::task::Poll;

    #[tokio::test]
    async fn who_reads_waits_until_all_that_it_may_have_seen_is_on_disk() {
        let progress = Progress::new();
        progress.settle().await;
        progress.begun.store(2, Ordering::SeqCst);
        let mut waiting = Box::pin(progress.settle());
        for flushed in [0, 1] {
            progress.flushed.send_replace(flushed);
            let once =
                std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending()));
            assert!(once.await, "{flushed}");
        }
        progress.flushed.send_replace(2);
        waiting.await;
    }

    /// Set for a process of its own: the test below, started once more.
    const FAILS: &str = "CAUSEWAY_TEST_FLUSH_FAILS";

    #[test]
    fn a_process_whose_disk_fails_ends() {
        if std::env::var_os(FAILS).is_some() {
            // A pipe cannot be flushed.
            let (reads, _writes) = std::io::pipe().unwrap();
            flush(&File::from(OwnedFd::from(reads)));
            return;
        }
        let name = "disk::tests::a_process_whose_disk_fails_ends";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let ended = command.args([name, "--exact"]).env(FAILS, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
    }
}
