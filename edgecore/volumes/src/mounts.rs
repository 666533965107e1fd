//! Folders and mounts on the host. Nothing here runs a program.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::tree;

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

/// Makes the folders of the relative path `below`, each with this mode whatever the umask is.
pub fn make_dirs_below(folder: &Path, below: &Path, mode: u32) -> io::Result<()> {
    let mut path = folder.to_owned();
    for part in below.components() {
        path.push(part);
        make_dir(&path, mode)?;
    }
    Ok(())
}

/// Makes a folder and those above it that are missing, each with this mode whatever the umask is.
pub fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    missing
        .into_iter()
        .rev()
        .filter(|above| !above.as_os_str().is_empty())
        .try_for_each(|above| make_dir(above, mode))
}

/// True for a folder that is there.
pub fn is_folder(path: &Path) -> bool {
    path.is_dir()
}

/// True for a block device that is there.
pub fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A folder in memory that takes `size` bytes at most. Where tmpfs cannot be mounted it is a plain folder below one that
/// only root may enter.
pub fn memory_dir(path: &Path, size: u64) -> io::Result<()> {
    make_dir(path, 0o755)?;
    if is_mount_point(path) {
        return Ok(());
    }
    match rustix::mount::mount("tmpfs", path, "tmpfs", MEMORY, Some(sized(size)?.as_c_str())) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::warn!(error = %error, "no tmpfs for a volume, it is kept on disk");
            path.parent().map_or(Ok(()), |parent| set_mode(parent, 0o700))
        }
    }
}

/// Mounts in memory run nobody's programs with rights and hold no devices.
const MEMORY: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

fn sized(size: u64) -> io::Result<CString> {
    CString::new(format!("mode=0755,size={size}")).map_err(io::Error::other)
}

/// A folder in memory into which `payload` bytes fit beside what is there, and not much more.
pub fn memory_dir_for(path: &Path, payload: u64) -> io::Result<()> {
    // A new version is written before the old one goes.
    memory_dir(path, 2 * payload + MARGIN)?;
    if !is_mount_point(path) {
        return Ok(());
    }
    let room = rustix::fs::statvfs(path)?;
    let used = room.f_blocks.saturating_sub(room.f_bfree) * room.f_frsize;
    let needed = used + payload + MARGIN;
    if room.f_blocks * room.f_frsize < needed {
        rustix::mount::mount_remount(path, MEMORY, sized(needed)?.as_c_str())?;
    }
    Ok(())
}

/// For what tmpfs keeps beside the contents of files, in bytes.
const MARGIN: u64 = 64 * 1024;

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
    tree::remove(dir)
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

    #[test]
    fn a_folder_of_any_depth_is_removed_and_links_in_it_lead_nowhere() {
        // In memory where there is such a folder: it is about depth, not about the disk.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (pod, host) = (root.path().join("pod"), root.path().join("host"));
        fs::create_dir_all(&pod).unwrap();
        fs::create_dir(&host).unwrap();
        fs::write(host.join("f"), "").unwrap();
        std::os::unix::fs::symlink(&host, pod.join("link")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o700);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let mut at: std::os::fd::OwnedFd = fs::File::open(&pod).unwrap().into();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&at, "d", mode).unwrap();
            at = rustix::fs::openat(&at, "d", flags, mode).unwrap();
        }
        drop(at);
        unmount_and_remove(&pod).unwrap();
        assert!(!pod.exists() && host.join("f").exists());
    }

    /// Where nothing can be mounted (tests without root's capabilities) a folder stands in that only root may reach.
    #[test]
    fn a_folder_in_memory_has_a_size_that_grows_with_what_it_has_to_hold() {
        let root = tempfile::tempdir().unwrap();
        set_mode(root.path(), 0o755).unwrap();
        let path = root.path().join("volume");
        let size = || rustix::fs::statvfs(&path).map(|room| room.f_blocks * room.f_frsize).unwrap();
        memory_dir_for(&path, 8192).unwrap();
        if !is_mount_point(&path) {
            assert_eq!(fs::metadata(root.path()).unwrap().permissions().mode() & 0o777, 0o700);
            return;
        }
        assert_eq!(size(), 2 * 8192 + MARGIN);
        fs::write(path.join("old"), [1; 8192]).unwrap();
        memory_dir_for(&path, 8192).unwrap();
        assert_eq!(size(), 2 * 8192 + MARGIN, "the same again fits");
        memory_dir_for(&path, 1 << 20).unwrap();
        fs::write(path.join("new"), vec![1; 1 << 20]).unwrap();
        assert!(fs::write(path.join("more"), vec![1; 1 << 20]).is_err());
        unmount_and_remove(&path).unwrap();
    }
}
