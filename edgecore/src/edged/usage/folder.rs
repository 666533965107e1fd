//! What the files of a folder take, by walking it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
}

/// What a folder takes on its own file system; links are not followed. Nothing, where there is none.
pub fn walk(folder: &Path) -> Taken {
    let Ok(meta) = std::fs::symlink_metadata(folder) else { return Taken::default() };
    let mut taken = Taken { bytes: meta.blocks() * 512, inodes: 1 };
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != meta.dev() || taken.inodes >= ENTRIES {
                continue;
            }
            taken = taken.and(Taken { bytes: found.blocks() * 512, inodes: 1 });
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    taken
}
