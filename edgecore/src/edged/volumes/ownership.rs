//! fsGroup: a volume belongs to a group (spec/edge-runtime.md 5.10).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// When a volume that exists already is walked (`fsGroupChangePolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Always,
    /// Not if the folder itself belongs to the group as it should.
    OnRootMismatch,
}

/// Gives a volume to the group, if the policy wants it walked.
pub fn give(root: &Path, group: u32, policy: Policy) -> io::Result<()> {
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
pub fn give_to_group(root: &Path, group: u32) -> io::Result<()> {
    walk(root, group, 0o660, FOLDER_BITS)
}

/// Files may be read by the group.
pub fn give_read_to_group(root: &Path, group: u32) -> io::Result<()> {
    walk(root, group, 0o440, 0o2550)
}

fn walk(path: &Path, group: u32, file_bits: u32, folder_bits: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let bits = if meta.is_dir() { folder_bits } else { file_bits };
    let mode = meta.permissions().mode() & 0o7777 | bits;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), group, file_bits, folder_bits)?;
        }
    }
    Ok(())
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
}
