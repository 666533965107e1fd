//! What files take: of a folder by walking it, of a file system by asking it.

use std::path::Path;

use jiff::Timestamp;

use super::summary::Filesystem;
use nodebase::host::{Disk, Host};
use nodebase::usage::folder::{Taken, walk};

/// A whole file system.
pub(super) fn whole(disk: Disk, now: Timestamp) -> Filesystem {
    let used = Taken {
        bytes: disk.bytes.saturating_sub(disk.available),
        inodes: disk.inodes.saturating_sub(disk.inodes_free),
    };
    part(disk, used, now)
}

/// What is taken of a file system by one of its users.
pub(super) fn part(disk: Disk, taken: Taken, now: Timestamp) -> Filesystem {
    Filesystem {
        time: now,
        available_bytes: disk.available,
        capacity_bytes: disk.bytes,
        used_bytes: taken.bytes,
        inodes_free: disk.inodes_free,
        inodes: disk.inodes,
        inodes_used: taken.inodes,
    }
}

/// A folder of a volume: its file system if it has one of its own, else what it takes of the node's.
pub(super) fn folder(host: &dyn Host, path: &Path, is_own: bool, now: Timestamp) -> Option<Filesystem> {
    let disk = host.disk(path).ok()?;
    Some(if is_own { whole(disk, now) } else { part(disk, walk(path), now) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        let empty = walk(folder.path());
        std::fs::write(folder.path().join("below/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let full = walk(folder.path());
        assert_eq!((empty.inodes, full.inodes), (2, 4));
        assert!(full.bytes >= empty.bytes + 100_000 && full.bytes < empty.bytes + 200_000, "{full:?}");
        assert_eq!(walk(&folder.path().join("none")), Taken::default());
    }

    #[test]
    fn what_is_used_is_what_is_not_available() {
        let disk = Disk { bytes: 10, available: 4, inodes: 8, inodes_free: 1, read_only: false };
        let usage = whole(disk, Timestamp::UNIX_EPOCH);
        assert_eq!((usage.used_bytes, usage.inodes_used, usage.capacity_bytes), (6, 7, 10));
    }
}
