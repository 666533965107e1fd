//! fsGroup: a volume belongs to a group (docs/protocol/edge-runtime.md 5.10).

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid};

use crate::tree::{self, Visit};

/// When a volume that exists already is walked (`fsGroupChangePolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    /// Not if the folder itself belongs to the group as it should.
    OnRootMismatch,
}

/// Gives a volume to the group, if the policy wants it walked.
pub(super) fn give(root: &Path, group: u32, policy: Policy) -> io::Result<()> {
    if policy == Policy::OnRootMismatch && is_of_group(root, group)? {
        return Ok(());
    }
    give_to_group(root, group)
}

fn is_of_group(root: &Path, group: u32) -> io::Result<bool> {
    let meta = fs::metadata(root)?;
    Ok(meta.gid() == group && meta.permissions().mode() & FOLDER_BITS == FOLDER_BITS)
}

const FOLDER_BITS: u32 = 0o2770;

/// Files may be read and written by the group, folders hand the group on.
pub(super) fn give_to_group(root: &Path, group: u32) -> io::Result<()> {
    walk(root, group, 0o660, FOLDER_BITS)
}

/// Files may be read by the group.
pub(super) fn give_read_to_group(root: &Path, group: u32) -> io::Result<()> {
    walk(root, group, 0o440, 0o2550)
}

/// By descriptor: a program that writes to the volume meanwhile may swap folders for links to the host's.
fn walk(root: &Path, group: u32, file_bits: u32, folder_bits: u32) -> io::Result<()> {
    let change = Change { group: Gid::from_raw(group), file_bits, folder_bits };
    let Some(root) = change.apply(tree::item(root)?)? else { return Ok(()) };
    tree::walk(root, |here, name| {
        let Some(item) = tree::item_in(here, name)? else { return Ok(Visit::Next) };
        Ok(change.apply(item)?.map_or(Visit::Next, Visit::Enter))
    })
}

/// What is done to everything in a volume.
struct Change {
    group: Gid,
    file_bits: u32,
    folder_bits: u32,
}

impl Change {
    /// Changes one item; the folder it is, opened.
    fn apply(&self, item: OwnedFd) -> io::Result<Option<OwnedFd>> {
        let stat = rustix::fs::fstat(&item)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        rustix::fs::chownat(&item, c"", None, Some(self.group), AtFlags::EMPTY_PATH)?;
        if kind.is_symlink() {
            return Ok(None);
        }
        let bits = if kind.is_dir() { self.folder_bits } else { self.file_bits };
        // The kernel changes no mode by a descriptor that cannot read; this name leads to the same inode, whatever
        // has become of its path.
        let same = format!("/proc/self/fd/{}", item.as_raw_fd());
        fs::set_permissions(same, fs::Permissions::from_mode(stat.st_mode & 0o7777 | bits))?;
        if kind.is_dir() { tree::folder_of(item).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_whose_root_fits_is_walked_only_when_it_always_is() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let own = fs::metadata(&file).unwrap().gid();
        let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        set(0o600);
        give(root.path(), own, Policy::OnRootMismatch).unwrap();
        assert_eq!(mode(), 0o660, "the root did not fit");
        set(0o600);
        give(root.path(), own, Policy::OnRootMismatch).unwrap();
        assert_eq!(mode(), 0o600, "the root fits now");
        give(root.path(), own, Policy::Always).unwrap();
        assert_eq!(mode(), 0o660);
    }

    /// A program in the volume exchanges a folder and a link to one of the host, as fast as it can.
    #[test]
    fn a_folder_swapped_for_a_link_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (volume, host) = (root.path().join("volume"), root.path().join("host"));
        fs::create_dir_all(volume.join("x/below")).unwrap();
        fs::create_dir_all(host.join("below")).unwrap();
        std::os::unix::fs::symlink(&host, volume.join("y")).unwrap();
        let private = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        private(&host);
        private(&host.join("below"));
        let group = fs::metadata(&host).unwrap().gid();
        let (swapped, stop) = (volume.clone(), std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (x, y) = (swapped.join("x"), swapped.join("y"));
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(rustix::fs::CWD, &x, rustix::fs::CWD, &y, flags);
                }
            });
            for _ in 0..2000 {
                // What vanishes under its hands is no error of the walk either.
                let _ = give_to_group(&volume, group);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let modes = format!("{:o} {:o}", mode(&host), mode(&host.join("below")));
        assert_eq!(modes, "700 700", "the host's folder was changed");
    }
}
