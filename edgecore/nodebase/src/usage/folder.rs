//! What the files of a folder take, by walking it.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat};

use volumes::tree::{self, Visit};

/// A folder with more entries is not walked to its end: its numbers are too small then, and the node stays calm.
const ENTRIES: u64 = 50_000;

/// Bytes and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub bytes: u64,
    pub inodes: u64,
}

impl Taken {
    pub fn and(self, other: Taken) -> Taken {
        Taken { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }

    fn one(stat: &Stat) -> Taken {
        Taken { bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512, inodes: 1 }
    }
}

/// What a folder takes on its own file system, at any depth; links are not followed. Nothing, where there is none.
pub fn walk(folder: &Path) -> Taken {
    let Ok((item, stat)) = tree::item(folder).and_then(|item| {
        let stat = rustix::fs::fstat(&item)?;
        Ok((item, stat))
    }) else {
        return Taken::default();
    };
    let mut taken = Taken::one(&stat);
    let count = |here: BorrowedFd<'_>, name: &CStr| -> io::Result<Visit> {
        if taken.inodes >= ENTRIES {
            return Ok(Visit::Stop);
        }
        let Ok(found) = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(Visit::Next);
        };
        if found.st_dev != stat.st_dev {
            return Ok(Visit::Next);
        }
        taken = taken.and(Taken::one(&found));
        let entered = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => tree::folder(here, name).ok().flatten(),
            _ => None,
        };
        Ok(entered.map_or(Visit::Next, Visit::Enter))
    };
    // What cannot be walked to its end counts as far as it was.
    if let Ok(folder) = tree::folder_of(item) {
        let _ = tree::walk(folder, count);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn what_lies_deeper_than_a_path_can_name_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let open = |at: &std::os::fd::OwnedFd, name: &str, flags: OFlags| {
            rustix::fs::openat(at, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o700)).unwrap()
        };
        let mut at: std::os::fd::OwnedFd = std::fs::File::open(root.path()).unwrap().into();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = open(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY);
        }
        let before = walk(root.path());
        let mut file = std::fs::File::from(open(&at, "f", OFlags::CREATE | OFlags::WRONLY));
        std::io::Write::write_all(&mut file, &[1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let after = walk(root.path());
        assert!(after.bytes >= before.bytes + (1 << 20), "{before:?}, then {after:?}");
        volumes::tree::remove(root.path()).unwrap();
    }
}
