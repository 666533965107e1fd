//! Termination message files: what a container writes there beyond the message is given back to the disk.
//!
//! The file is the container's own, on the disk of the node; a size that the kernel keeps would make programs fail that
//! take it for a log, and that run elsewhere. So it is looked at as often as the logs are, and all but its end is cut out
//! (a hole: who writes on notices nothing). Until then it counts as storage of its pod, which may be evicted for it.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// What is left of a file, in bytes; 4096 of them are read.
const KEPT: u64 = 64 * 1024;
/// A file that takes less on disk is left alone.
const MOST: u64 = 2 * KEPT;

/// Cuts the files of all pods in `<root>/pods`. One that cannot be cut is told of and leaves the others alone.
pub(super) fn trim_all(pods: &Path) {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let containers = entries(pods).flat_map(|pod| entries(&pod.path().join("containers")));
    for file in containers.flat_map(|container| entries(&container.path())) {
        let taken = file.metadata().map_or(0, |meta| if meta.is_file() { meta.blocks() * 512 } else { 0 });
        if taken <= MOST {
            continue;
        }
        if let Err(error) = trim(&file.path()) {
            tracing::warn!(path = %file.path().display(), error = %error, "termination message file not cut");
        }
    }
}

/// Gives all but the end of the file back; all of it where the file system cannot cut a hole.
fn trim(path: &Path) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let given_back = file.metadata()?.len().saturating_sub(KEPT);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(&file, hole, 0, given_back) {
        Err(Errno::OPNOTSUPP) => file.set_len(0),
        cut => Ok(cut?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_flood_is_given_back_and_the_end_stays_while_the_container_writes_on() {
        let pods = tempfile::tempdir().unwrap();
        let folder = pods.path().join("u-1/containers/a");
        std::fs::create_dir_all(&folder).unwrap();
        let (flood, calm) = (folder.join("0"), pods.path().join("u-1/containers/a/1"));
        std::fs::write(&calm, "calm").unwrap();
        let mut writer = File::create(&flood).unwrap();
        for line in 0..40_000 {
            writeln!(writer, "{line:>99}").unwrap();
        }
        writer.sync_all().unwrap();
        trim_all(pods.path());
        let taken = || std::fs::metadata(&flood).unwrap().blocks() * 512;
        assert!(taken() <= MOST, "{} bytes are left", taken());
        writer.write_all(b"last words").unwrap();
        let text = std::fs::read(&flood).unwrap();
        assert!(text.ends_with(b" 39999\nlast words"));
        assert_eq!(std::fs::read_to_string(&calm).unwrap(), "calm");
    }
}
