//! fsGroup: a volume belongs to a group (spec/edge-runtime.md 5.10).

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

/// Files may be read and written by the group, folders hand the group on.
pub fn give_to_group(root: &Path, group: u32) -> io::Result<()> {
    walk(root, group, 0o660, 0o2770)
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
