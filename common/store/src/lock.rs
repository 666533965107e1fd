//! One program per data folder.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::OpenError;

/// The folder's lock; gone when it is dropped, or with the process.
#[derive(Debug)]
pub struct FolderLock {
    _folder: File,
}

/// A predecessor that is stopping may hold the folder this long.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(50);

/// Makes `folder` if it is missing and locks it (flock(2) on the folder itself, so that a full disk is no obstacle). Waits
/// for a moment if another program has it; call before anything is bound.
///
/// # Errors
/// [`OpenError::InUse`] names the process that has it.
pub async fn lock(folder: &Path) -> Result<FolderLock, OpenError> {
    let error = |source| OpenError::Lock { folder: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    let file = File::open(folder).map_err(error)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(FolderLock { _folder: file }),
            Err(TryLockError::Error(source)) => return Err(error(source)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => tokio::time::sleep(STEP).await,
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { folder: folder.to_owned(), holder: holder(&file) });
            }
        }
    }
}

/// The list changes while it is read, which takes several steps: an entry may be missing from one reading.
const READINGS: usize = 10;

/// "process 123", from the kernel's list of locks.
fn holder(file: &File) -> String {
    let unknown = || "another process".to_owned();
    let Ok(inode) = file.metadata().map(|metadata| metadata.ino()) else { return unknown() };
    let read = |_| holder_in(&std::fs::read_to_string("/proc/locks").ok()?, inode);
    (0..READINGS).find_map(read).map_or_else(unknown, |pid| format!("process {pid}"))
}

/// `1: FLOCK  ADVISORY  WRITE 123 fd:00:456 0 EOF`: the pid of the lock on inode 456.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let fields = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.into_iter().find_map(|fields| {
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else { return None };
        let is_it = file.rsplit(':').next().is_some_and(|number| number.parse() == Ok(inode));
        is_it.then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_has_one_program_and_the_second_hears_which() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let first = lock(&path).await.unwrap();
        let error = lock(&path).await.unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(lock(&path).await.is_ok());
    }

    #[test]
    fn the_holder_is_found_by_its_inode() {
        let locks =
            "1: POSIX  ADVISORY  WRITE 7 fd:00:456 0 EOF\n2: FLOCK  ADVISORY  WRITE 123 fd:00:456 0 EOF\n";
        assert_eq!(holder_in(locks, 456), Some(123));
        assert_eq!(holder_in(locks, 45), None);
    }
}
