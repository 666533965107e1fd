//! The atomic writer: readers see all files of one version, or all of the next.
//!
//! ```text
//! <volume>/..2026_11_21_02_00_00.1/   the payload         <volume>/name -> ..data/name
//! <volume>/..data -> ..2026_11_21_02_00_00.1              replaced by one rename of ..data_tmp
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use super::{mounts, ownership};

/// Relative path -> contents and mode.
pub type Files = BTreeMap<String, File>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// The user that owns it; root when absent.
    pub owner: Option<u32>,
}

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Brings the volume at `dir` to `files`. Returns whether anything changed.
pub fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    for path in files.keys() {
        check_path(path)?;
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|current| is_same(&dir.join(current), files, group)) {
        link_names(dir, files)?;
        return Ok(false);
    }
    let next = next_folder(dir)?;
    fill(&dir.join(&next), files, group)?;
    let _ = fs::remove_file(dir.join(DATA_NEXT));
    symlink(&next, dir.join(DATA_NEXT))?;
    fs::rename(dir.join(DATA_NEXT), dir.join(DATA))?;
    link_names(dir, files)?;
    remove_old(dir, &next, files)?;
    Ok(true)
}

fn check_path(path: &str) -> io::Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let short = path.len() <= 4096 && path.split('/').all(|part| part.len() <= 255);
    if path.is_empty() || !plain || !short || path.split('/').any(|part| part.starts_with("..")) {
        let text = format!("{path:?} is not a path inside a volume");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
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
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
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

/// Removes names that are gone, then old payload folders.
fn remove_old(dir: &Path, keep: &Path, files: &Files) -> io::Result<()> {
    let names = top_names(files);
    let mut old = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        if text.starts_with("..") {
            if entry.file_type()?.is_dir() && Path::new(&name) != keep {
                old.push(entry.path());
            }
        } else if entry.file_type()?.is_symlink() && !names.contains(text) {
            fs::remove_file(entry.path())?;
        }
    }
    old.into_iter().try_for_each(fs::remove_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o644, owner: None };
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
        for bad in ["", "/etc/x", "../x", "a/../b", "..x", "a/..b"] {
            assert!(write(folder.path(), &files(&[(bad, "1")]), None).is_err(), "{bad}");
        }
    }
}
