//! The atomic writer: readers see all files of one version, or all of the next.
//!
//! ```text
//! <volume>/..2026_11_21_02_00_00.1/   the payload         <volume>/name -> ..data/name
//! <volume>/..data -> ..2026_11_21_02_00_00.1              replaced by one rename of ..data_tmp
//! ```

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use super::{mounts, ownership};
use crate::tree;

/// Relative path -> contents and mode.
pub type Files = BTreeMap<String, File>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// The user that owns it; root when absent.
    pub owner: Option<u32>,
    /// Whose contents these are, as errors name it.
    pub origin: String,
}

/// Files that cannot be one volume.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error(
        "{path:?} of {origin} is not a path inside a volume: it must be relative, without .. and not begin with .."
    )]
    Outside { path: String, origin: String },
    #[error(
        "{file:?} of {file_origin} and {below:?} of {below_origin} collide: {file:?} would have to be a file and a folder"
    )]
    Collision { file: String, file_origin: String, below: String, below_origin: String },
}

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// A block of tmpfs and of most file systems, in bytes.
const BLOCK: u64 = 4096;

/// What the files take in a volume, in bytes.
pub fn size(files: &Files) -> u64 {
    files.values().map(|file| (file.bytes.len() as u64).next_multiple_of(BLOCK)).sum()
}

/// Brings the volume at `dir` to `files`. Returns whether anything changed. What cannot be written leaves the volume as
/// it was.
pub fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    check(files).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let current = fs::read_link(dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|current| is_same(&dir.join(current), files, group)) {
        link_names(dir, files)?;
        return Ok(false);
    }
    // Left by a write that was cut short; in memory there is room for two versions, not for three.
    remove_payloads(dir, current.as_deref())?;
    let next = next_folder(dir)?;
    let put = fill(&dir.join(&next), files, group).and_then(|()| publish(dir, &next));
    if let Err(error) = put {
        // The error of the write is the one to tell.
        let _ = tree::remove(&dir.join(&next));
        return Err(error);
    }
    link_names(dir, files)?;
    remove_names(dir, files)?;
    remove_payloads(dir, Some(&next))?;
    Ok(true)
}

/// The one moment at which readers change from one version to the next.
fn publish(dir: &Path, next: &Path) -> io::Result<()> {
    let _ = fs::remove_file(dir.join(DATA_NEXT));
    symlink(next, dir.join(DATA_NEXT))?;
    fs::rename(dir.join(DATA_NEXT), dir.join(DATA))
}

/// Whether the files can be one volume: looked at before anything is made.
pub fn check(files: &Files) -> Result<(), PathError> {
    for (path, file) in files {
        if !is_inside(path) {
            return Err(PathError::Outside { path: path.clone(), origin: file.origin.clone() });
        }
        let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some((name, other)) = above.find_map(|above| files.get_key_value(above)) {
            return Err(PathError::Collision {
                file: name.clone(),
                file_origin: other.origin.clone(),
                below: path.clone(),
                below_origin: file.origin.clone(),
            });
        }
    }
    Ok(())
}

/// As the kubelet's atomic writer judges it.
fn is_inside(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let short = path.len() <= 4096 && path.split('/').all(|part| part.len() <= 255);
    plain && short && !path.is_empty() && !path.starts_with("..")
}

/// The path without empty and idle parts, so that one file has one name; as it is if it leads elsewhere.
pub fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    match path.starts_with('/') {
        true => path.to_owned(),
        false => parts.collect::<Vec<_>>().join("/"),
    }
}

fn next_folder(dir: &Path) -> io::Result<PathBuf> {
    let time = daemon::clock::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let mut number = 0;
    loop {
        let name = PathBuf::from(format!("..{time}.{number}"));
        match fs::create_dir(dir.join(&name)) {
            Ok(()) => {
                mounts::set_mode(&dir.join(&name), 0o755)?;
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn fill(folder: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for (path, file) in files {
        let target = folder.join(path);
        if let Some(parent) = Path::new(path).parent() {
            mounts::make_dirs_below(folder, parent, 0o755)?;
        }
        fs::write(&target, &file.bytes)?;
        mounts::set_mode(&target, file.mode)?;
        if file.owner.is_some() {
            chown(&target, file.owner, None)?;
        }
    }
    match group {
        Some(group) => ownership::give_read_to_group(folder, group),
        None => Ok(()),
    }
}

fn is_same(folder: &Path, files: &Files, group: Option<u32>) -> bool {
    let mut present = BTreeSet::new();
    list(folder, Path::new(""), &mut present);
    present.len() == files.len()
        && files.iter().all(|(path, file)| {
            let target = folder.join(path);
            let mode = match group {
                Some(_) => file.mode | 0o440,
                None => file.mode,
            };
            let same_mode =
                fs::metadata(&target).is_ok_and(|meta| meta.permissions().mode() & 0o7777 == mode);
            same_mode && fs::read(&target).is_ok_and(|bytes| bytes == file.bytes)
        })
}

fn list(folder: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder.join(below)).into_iter().flatten().flatten() {
        let path = below.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(folder, &path, found),
            _ => {
                found.insert(path);
            }
        }
    }
}

/// First path elements: what a reader sees at the top of the volume.
fn top_names(files: &Files) -> BTreeSet<&str> {
    files.keys().filter_map(|path| path.split('/').next()).collect()
}

fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    for name in top_names(files) {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes names that are gone.
fn remove_names(dir: &Path, files: &Files) -> io::Result<()> {
    let names = top_names(files);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(text) = name.to_str().filter(|text| !text.starts_with("..")) else { continue };
        if entry.file_type()?.is_symlink() && !names.contains(text) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes payload folders but the one to keep.
fn remove_payloads(dir: &Path, keep: Option<&Path>) -> io::Result<()> {
    let mut old = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_payload = name.as_bytes().starts_with(b"..") && entry.file_type()?.is_dir();
        if is_payload && Some(Path::new(&name)) != keep {
            old.push(entry.path());
        }
    }
    old.iter().try_for_each(|path| tree::remove(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        let file = |text: &str| File {
            bytes: text.as_bytes().to_vec(),
            mode: 0o644,
            owner: None,
            origin: "a test".to_owned(),
        };
        pairs.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn a_new_version_replaces_all_files_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert!(write(dir, &files(&[("a", "1"), ("d/b", "2"), ("gone", "3")]), None).unwrap());
        assert!(!write(dir, &files(&[("a", "1"), ("d/b", "2"), ("gone", "3")]), None).unwrap());
        assert!(write(dir, &files(&[("a", "9"), ("d/b", "2")]), None).unwrap());
        assert_eq!((read(dir, "a"), read(dir, "d/b")), ("9".into(), "2".into()));
        let names: BTreeSet<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(!names.contains("gone"));
    }

    #[test]
    fn a_write_cut_short_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::create_dir(dir.join("..2020_01_01_00_00_00.0")).unwrap();
        symlink("..nowhere", dir.join(DATA_NEXT)).unwrap();
        write(dir, &files(&[("a", "1")]), None).unwrap();
        assert_eq!(read(dir, "a"), "1");
        assert!(!dir.join("..2020_01_01_00_00_00.0").exists());
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for bad in ["", "/etc/x", "../x", "a/../b", "..x", "./a", "/"] {
            assert!(write(folder.path(), &files(&[(bad, "1")]), None).is_err(), "{bad}");
        }
        assert_eq!([plain("./a//b/./c"), plain("../a"), plain("/a")], ["a/b/c", "../a", "/a"]);
    }

    #[test]
    fn paths_that_collide_are_both_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(folder.path(), &files(&[("a", "1"), ("a.b", "2"), ("a/b", "3")]), None);
        let error = error.unwrap_err().to_string();
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert!(left == 0 && error.contains("\"a\"") && error.contains("\"a/b\""), "{left} left: {error}");
    }

    #[test]
    fn a_payload_that_cannot_be_written_leaves_nothing_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        // The disk refuses the second file of the first attempt, and of the ones after a good one.
        let unwritable = files(&[("a", "9"), ("z\0", "")]);
        assert!(write(dir, &unwritable, None).is_err());
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        write(dir, &files(&[("a", "1")]), None).unwrap();
        for _ in 0..3 {
            assert!(write(dir, &unwritable, None).is_err());
        }
        assert_eq!((fs::read_dir(dir).unwrap().count(), read(dir, "a").as_str()), (3, "1"));
    }
}
