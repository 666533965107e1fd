//! subPath: a part of a volume, reached without following symlinks out of it.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::mounts;

/// Binds `below` of the volume at `target`. A missing part is made as a folder. The path is resolved with the volume
/// as its root and bound from the opened descriptor, so a pod that swaps a symlink meanwhile gains nothing.
pub(super) fn bind(volume: &Path, below: &str, target: &Path) -> io::Result<()> {
    if mounts::is_mount_point(target) || is_bound(target) {
        return Ok(());
    }
    let plain =
        Path::new(below).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it leaves the volume"));
    }
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let part = match resolve(&root, below) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(&root, below)?;
            resolve(&root, below)?
        }
        other => other?,
    };
    let is_folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&part)?.st_mode).is_dir();
    match is_folder {
        true => mounts::make_dir(target, 0o750)?,
        false => {
            if let Some(parent) = target.parent() {
                mounts::make_dir(parent, 0o750)?;
            }
            fs::File::create(target)?;
        }
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd()));
    mounts::bind(&source, target)
}

/// A bind within one file system is no device boundary: ask the mount table.
fn is_bound(target: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts::below(target, &table).iter().any(|path| path == target)
}

fn resolve(root: &OwnedFd, below: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, below, flags, Mode::empty(), inside)?)
}

const MODE: Mode = Mode::from_raw_mode(0o755);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes the folders of a path one by one, each opened inside the volume.
fn make(root: &OwnedFd, below: &str) -> io::Result<()> {
    let mut done = PathBuf::new();
    for part in Path::new(below).components() {
        let parent = match done.as_os_str().is_empty() {
            true => resolve(root, ".")?,
            false => resolve(root, &done.to_string_lossy())?,
        };
        match rustix::fs::mkdirat(&parent, part.as_os_str(), MODE) {
            Ok(()) => {
                done.push(part);
                // The umask took its part.
                let made = rustix::fs::openat(&parent, part.as_os_str(), FOLDER, Mode::empty())?;
                rustix::fs::fchmod(&made, MODE)?;
            }
            Err(rustix::io::Errno::EXIST) => done.push(part),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
