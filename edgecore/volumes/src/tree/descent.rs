//! Where a walk is: the folder it reads and those above it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Folders that stay open above the one that is read. Those further up are found again by `..`, which only a program
/// that moves folders so deep can disturb.
pub(super) const OPEN: usize = 64;

/// The way from the root of a walk to the folder it reads, with a note about each folder on it.
pub(super) struct Descent<T> {
    here: OwnedFd,
    above: Vec<Above<T>>,
}

struct Above<T> {
    note: T,
    /// Device and inode.
    identity: (u64, u64),
    open: Option<OwnedFd>,
}

impl<T> Descent<T> {
    pub(super) fn at(root: OwnedFd) -> Descent<T> {
        Descent { here: root, above: Vec::new() }
    }

    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// Goes into a folder of the present one; the note comes back with the present one.
    pub(super) fn enter(&mut self, folder: OwnedFd, note: T) -> io::Result<()> {
        let identity = identity(&self.here)?;
        let left = std::mem::replace(&mut self.here, folder);
        self.above.push(Above { note, identity, open: Some(left) });
        if let Some(far) = self.above.len().checked_sub(OPEN + 1) {
            self.above[far].open = None;
        }
        Ok(())
    }

    /// Goes back to the folder above; `None` at the root.
    ///
    /// # Errors
    /// The folder was moved meanwhile: what is above it now is not part of the walk.
    pub(super) fn leave(&mut self) -> io::Result<Option<T>> {
        let Some(above) = self.above.pop() else { return Ok(None) };
        self.here = match above.open {
            Some(folder) => folder,
            None => {
                let folder = super::folder(self.here.as_fd(), c"..")?;
                let same = folder.filter(|folder| identity(folder).ok() == Some(above.identity));
                same.ok_or_else(|| io::Error::other("a folder was moved while it was walked"))?
            }
        };
        Ok(Some(above.note))
    }
}

fn identity(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}
