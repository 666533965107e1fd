//! Removing a folder with all that is in it.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use super::descent::Descent;
use super::{FOLDER, NAMES, folder_of, is_itself, item};

/// Times a folder is read again because something is still, or again, in it.
const PASSES: u32 = 8;

/// Removes what is at `path` and all below it. Done if there is nothing. What is behind a link stays, and so does what
/// is mounted below.
///
/// # Errors
/// Something cannot be removed, or something is mounted below: the rest of it is left.
pub fn remove(path: &Path) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path of something in a folder"));
    };
    let above = match item(above).and_then(folder_of) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let name = CString::new(name.as_bytes())?;
    if let Some(folder) = unlink(above.as_fd(), &name)? {
        empty(folder)?;
        rustix::fs::unlinkat(&above, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Removes all that is in a folder.
fn empty(root: OwnedFd) -> io::Result<()> {
    let mut descent = Descent::at(root);
    let mut names = [MaybeUninit::uninit(); NAMES];
    loop {
        match next_full(descent.here(), &mut names)? {
            Some((folder, name)) => descent.enter(folder, name)?,
            None => match descent.leave()? {
                Some(name) => {
                    rustix::fs::unlinkat(descent.here(), &name, AtFlags::REMOVEDIR)?;
                    rustix::fs::seek(descent.here(), SeekFrom::Start(0))?;
                }
                None => return Ok(()),
            },
        }
    }
}

/// Removes entries up to the first folder that is not empty.
fn next_full(here: BorrowedFd<'_>, names: &mut [MaybeUninit<u8>]) -> io::Result<Option<(OwnedFd, CString)>> {
    for _ in 0..PASSES {
        let mut is_empty = true;
        let mut entries = RawDir::new(here, &mut *names);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if is_itself(name) {
                continue;
            }
            is_empty = false;
            if let Some(folder) = unlink(here, name)? {
                return Ok(Some((folder, name.to_owned())));
            }
        }
        if is_empty {
            break;
        }
        // Some file systems pass entries over when others are removed meanwhile.
        rustix::fs::seek(here, SeekFrom::Start(0))?;
    }
    Ok(None)
}

/// Removes one entry; a folder that is not empty is opened instead.
fn unlink(here: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::unlinkat(here, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(here, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTEMPTY | Errno::EXIST) => open(here, name).map(Some),
        // Not a folder: it was the first attempt that was not permitted.
        Err(Errno::NOTDIR) => Err(Errno::PERM.into()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder on the same mount as the one it is in.
fn open(here: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let stay = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(here, name, FOLDER, Mode::empty(), stay) {
        Err(Errno::XDEV) => Err(io::Error::other(format!("{name:?} is still mounted"))),
        // Linux before 5.6: what is mounted was unmounted before.
        Err(Errno::NOSYS) => Ok(rustix::fs::openat(here, name, FOLDER, Mode::empty())?),
        opened => Ok(opened?),
    }
}
