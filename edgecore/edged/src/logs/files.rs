//! The files of log rotation. Blocks.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Files named `<root>/<pod>/<container>/<n>.log` beyond the limit.
pub(super) fn too_large(root: &Path, max_bytes: u64) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let list = std::fs::read_dir(path).into_iter().flatten().flatten();
        list.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let containers = entries(root).into_iter().flat_map(|pod| entries(&pod));
    let files = containers.flat_map(|container| entries(&container));
    let is_large = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "log")
            && path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > max_bytes)
    };
    files.filter(is_large).collect()
}

/// Gives a log another name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Gives a log that was set aside its name back, unless there is a new one.
pub(super) fn rename_back(moved: &Path, path: &Path) -> io::Result<()> {
    if path.exists() { Ok(()) } else { std::fs::rename(moved, path) }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The name a log is given when it is set aside.
pub(super) fn set_aside_name(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.{}", file_name(path), daemon::clock::now().strftime("%Y%m%d-%H%M%S")))
}

/// Removes the oldest rotated logs of `path` beyond the limit and compresses the others but `newest`.
pub(super) fn thin(path: &Path, newest: &Path, max_files: usize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let prefix = format!("{}.", file_name(path));
    let mut old: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    old.sort();
    // What was cut off in the middle of its compression is there twice.
    let (unfinished, mut old): (Vec<PathBuf>, Vec<PathBuf>) =
        old.into_iter().partition(|path| ends_in(path, "tmp"));
    unfinished.into_iter().try_for_each(std::fs::remove_file)?;
    let surplus = old.len().saturating_sub(max_files.saturating_sub(1));
    old.drain(..surplus).try_for_each(std::fs::remove_file)?;
    for path in old.iter().filter(|path| *path != newest && !ends_in(path, "gz")) {
        // A disk without room for both keeps the log as it is.
        if let Err(error) = compress(path) {
            tracing::warn!(log = %path.display(), error = %error, "rotated log not compressed");
        }
    }
    Ok(())
}

fn ends_in(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|is| is == ending)
}

/// `log.<time>` -> `log.<time>.gz`, never half.
fn compress(path: &Path) -> io::Result<()> {
    let name = file_name(path);
    let unfinished = path.with_file_name(format!("{name}.tmp"));
    let written = (|| {
        let mut from = podmodel::opening::log(path)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&from.metadata()?.permissions());
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let to = options.write(true).create_new(true).open(&unfinished)?;
        let mut to = flate2::write::GzEncoder::new(to, flate2::Compression::default());
        io::copy(&mut from, &mut to)?;
        to.finish()?.sync_all()?;
        std::fs::rename(&unfinished, path.with_file_name(format!("{name}.gz")))
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    written?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_aside(path: &Path, max_files: usize) -> PathBuf {
        let moved = set_aside_name(path);
        std::fs::rename(path, &moved).unwrap();
        thin(path, &moved, max_files).unwrap();
        moved
    }

    #[test]
    fn only_large_logs_are_found_and_few_old_ones_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("d_p_u/c");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("0.log"), "small").unwrap();
        let large = std::fs::File::create(folder.join("1.log")).unwrap();
        large.set_len(1001).unwrap();
        assert_eq!(too_large(root.path(), 1000), [folder.join("1.log")]);
        for day in 1..8 {
            std::fs::write(folder.join(format!("1.log.2026010{day}-000000")), "").unwrap();
        }
        set_aside(&folder.join("1.log"), 5);
        let left = std::fs::read_dir(&folder).unwrap().flatten().count();
        assert_eq!(left, 5);
        assert!(!folder.join("1.log").exists());
        // The newest stays as it is for those who read it; the others are compressed.
        let compressed = folder.join("1.log.20260107-000000.gz");
        assert!(compressed.exists() && !folder.join("1.log.20260107-000000").exists());
        std::fs::write(folder.join("1.log"), "later words\n").unwrap();
        std::fs::write(folder.join("1.log.20260107-000000.tmp"), "cut off").unwrap();
        let last = set_aside(&folder.join("1.log"), 9);
        assert_eq!(std::fs::read_to_string(&last).unwrap(), "later words\n");
        compress(&last).unwrap();
        let text = File::open(folder.join(format!("{}.gz", last.display()))).unwrap();
        assert_eq!(io::read_to_string(flate2::read::GzDecoder::new(text)).unwrap(), "later words\n");
        assert!(!folder.join("1.log.20260107-000000.tmp").exists());
    }
}
