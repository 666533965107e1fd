//! Folders and mounts on the host. Nothing here runs a program.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

/// Makes a folder of this mode; folders above it get 0750.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => set_mode(path, mode),
    }
}

pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A folder in memory. Where tmpfs cannot be mounted it is a plain folder below one that only root may enter.
pub fn memory_dir(path: &Path, limit: Option<i64>) -> io::Result<()> {
    make_dir(path, 0o755)?;
    if is_mount_point(path) {
        return Ok(());
    }
    let size = limit.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let options = CString::new(format!("mode=0755{size}")).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    match rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str())) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::warn!(error = %error, "no tmpfs for a volume, it is kept on disk");
            path.parent().map_or(Ok(()), |parent| set_mode(parent, 0o700))
        }
    }
}

/// Binds what `source` opens (a folder or a file) at `target`, which exists.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(source, target).map_err(io::Error::from)
}

/// Whether something is mounted at `path`: it is on another device than its parent.
pub fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| meta.dev());
    let parent = path.parent().and_then(device);
    device(path).is_some_and(|own| Some(own) != parent)
}

/// Whether something is mounted at `path`, also from the same device, as bind mounts are.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    match path.canonicalize() {
        Ok(real) => Ok(below(&real, &mountinfo()?).contains(&real)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Mount points at or below `dir`, deepest first.
pub fn below(dir: &Path, mountinfo: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|text| PathBuf::from(unescape(text)))
        .filter(|path| path.starts_with(dir))
        .collect();
    found.reverse();
    found
}

/// `\040` and the like, as mountinfo writes spaces.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Unmounts everything below `dir` and removes it. Done if there is no such folder.
pub fn unmount_and_remove(dir: &Path) -> io::Result<()> {
    unmount_below(dir)?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Unmounts everything below `dir`. Fails while something stays mounted, so that nobody deletes what is in it.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let Ok(real) = dir.canonicalize() else { return Ok(()) };
    for path in below(&real, &mountinfo()?) {
        if rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW).is_err() {
            rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
        }
    }
    match below(&real, &mountinfo()?).first() {
        Some(left) => Err(io::Error::other(format!("{} is still mounted", left.display()))),
        None => Ok(()),
    }
}

fn mountinfo() -> io::Result<String> {
    fs::read_to_string("/proc/self/mountinfo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_folder_are_listed_deepest_first() {
        let text = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /k/pods/u/a\\040b rw - tmpfs t rw\n\
                    3 2 0:3 / /k/pods/u/a\\040b/c rw - tmpfs t rw\n4 1 0:4 / /k/pods/uu rw - tmpfs t rw\n";
        let found = below(Path::new("/k/pods/u"), text);
        assert_eq!(found, [PathBuf::from("/k/pods/u/a b/c"), PathBuf::from("/k/pods/u/a b")]);
    }
}
