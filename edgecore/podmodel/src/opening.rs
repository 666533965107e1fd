//! Opening files that a runtime, or a container, writes to: none is reached through a link, and none keeps its reader
//! waiting. Promised for logs: `<pod>/<container>/<file>` is a regular file below the folder that holds the logs of all
//! pods; that folder itself may be a link of the administrator's.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The parts of a log's path that belong to its pod.
const OWN_PARTS: usize = 3;

/// Without effect on regular files; a pipe would hold its reader up.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens the log of a container.
///
/// # Errors
/// There is none; a link is in its way, or it is no regular file.
pub fn log(path: &Path) -> io::Result<File> {
    let root = path.ancestors().nth(OWN_PARTS).unwrap_or(Path::new("/"));
    let below = path.strip_prefix(root).unwrap_or(path);
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = match rustix::fs::openat2(&root, below, READ, Mode::empty(), inside) {
        // Linux before 5.6 looks at the last part only.
        Err(Errno::NOSYS) => rustix::fs::openat(&root, below, READ | OFlags::NOFOLLOW, Mode::empty()),
        opened => opened,
    };
    regular(opened.map(File::from))
}

/// Opens the last words of a container for reading.
pub fn last_words(path: &Path) -> io::Result<File> {
    regular(rustix::fs::openat(CWD, path, READ | OFlags::NOFOLLOW, Mode::empty()).map(File::from))
}

fn regular(opened: Result<File, Errno>) -> io::Result<File> {
    let file = match opened {
        Err(Errno::LOOP) => return Err(io::Error::other("a link is in its path, which is not followed")),
        opened => opened?,
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}
