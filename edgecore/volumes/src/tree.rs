//! Walking folders that programs write to meanwhile. Every step goes by a descriptor and none through a link, so that
//! a folder that is swapped for a link leads nowhere. Any depth takes `descent::OPEN` descriptors and little memory;
//! no recursion.
//!
//! ```text
//! walk:    here --each entry--> visit --Enter(folder)--> here = folder ... end --> the folder above goes on
//! remove:  here --each entry--> unlink | rmdir | enter ... end --> rmdir from the folder above
//! ```
//!
//! Owns nothing. Whoever changes the tree meanwhile may keep parts of it from being seen, never lead out of it.

mod descent;
mod remove;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use descent::Descent;
pub use remove::remove;

/// Room for the names of one read of a folder, in bytes.
const NAMES: usize = 8192;

/// What becomes of an entry.
pub enum Visit {
    Next,
    /// Its entries come next. The folder is the one that was visited, opened by [`folder`] or [`folder_of`].
    Enter(OwnedFd),
    /// The walk is over.
    Stop,
}

/// Visits all that is below a folder; `visit` gets the folder it lies in and its name there.
///
/// # Errors
/// Those of `visit`; a folder that cannot be read; a folder that was moved away while something deep below it was walked.
pub fn walk(
    root: OwnedFd,
    mut visit: impl FnMut(BorrowedFd<'_>, &CStr) -> io::Result<Visit>,
) -> io::Result<()> {
    let mut descent = Descent::at(root);
    let mut names = [MaybeUninit::uninit(); NAMES];
    loop {
        let (folder, after) = match next_folder(descent.here(), &mut names, &mut visit)? {
            Reached::Stop => return Ok(()),
            Reached::Folder(folder, after) => (folder, after),
            Reached::End => match descent.leave()? {
                Some(after) => {
                    rustix::fs::seek(descent.here(), SeekFrom::Start(after))?;
                    continue;
                }
                None => return Ok(()),
            },
        };
        descent.enter(folder, after)?;
    }
}

/// How far a folder was read.
enum Reached {
    /// A folder to enter, and where reading goes on after it.
    Folder(OwnedFd, u64),
    End,
    Stop,
}

fn next_folder(
    here: BorrowedFd<'_>,
    names: &mut [MaybeUninit<u8>],
    visit: &mut impl FnMut(BorrowedFd<'_>, &CStr) -> io::Result<Visit>,
) -> io::Result<Reached> {
    let mut entries = RawDir::new(here, names);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if is_itself(entry.file_name()) {
            continue;
        }
        match visit(here, entry.file_name())? {
            Visit::Next => {}
            Visit::Enter(folder) => return Ok(Reached::Folder(folder, entry.next_entry_cookie())),
            Visit::Stop => return Ok(Reached::Stop),
        }
    }
    Ok(Reached::End)
}

fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Something at a path, to be looked at and changed but not read. A link at its end is opened itself.
pub fn item(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, ITEM, Mode::empty())?)
}

/// Something in a folder, to be looked at and changed but not read; `None` if it has gone meanwhile.
pub fn item_in(here: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::openat(here, name, ITEM, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// The folder an item is, to be walked.
pub fn folder_of(item: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(item, c".", FOLDER, Mode::empty())?)
}

/// A folder in a folder, to be walked; `None` if it has gone meanwhile or is none any more.
pub fn folder(here: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::openat(here, name, FOLDER, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

const ITEM: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
