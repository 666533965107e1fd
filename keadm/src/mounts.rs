//! Mounts below a folder, as `/proc/self/mountinfo` writes them (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts all of them, the deepest first: mounts lie in mounts.
pub(crate) fn unmount_below(folder: &Path) -> Result<()> {
    let text = std::fs::read("/proc/self/mountinfo").context("reading the mounts")?;
    for path in below(&text, folder) {
        unmount(&path, UnmountFlags::empty()).with_context(|| format!("unmounting {}", path.display()))?;
    }
    Ok(())
}

/// In the order to unmount them.
fn below(mountinfo: &[u8], folder: &Path) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped);
    let mut below: Vec<PathBuf> = points.filter(|path| path.starts_with(folder) && path != folder).collect();
    // The last mount on a path lies on top of the others.
    below.reverse();
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    below
}

/// The kernel writes spaces, tabs, line ends and backslashes as a backslash and three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, more.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                path.push(byte);
                rest = &more[3..];
            }
            _ => {
                path.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_and_the_deepest_comes_first() {
        let line = |point: &str| format!("36 35 98:0 / {point} rw,noatime master:1 - ext4 /dev/root rw\n");
        let text = [
            r"/srv/site\0401/pods",
            r"/srv/site\0401/pods/a\011b\012c\134d",
            r"/srv/site\0401",
            r"/srv/site\04012/pods",
            "/srv/other",
        ]
        .map(line)
        .concat();
        let found = below(text.as_bytes(), Path::new("/srv/site 1"));
        assert_eq!(found, [Path::new("/srv/site 1/pods/a\tb\nc\\d"), Path::new("/srv/site 1/pods")]);
    }
}
