//! What is in the folders of pods. Blocks.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::io;
use std::path::Path;

/// The highest `<n>.log` in a container's log folder: how often it had been restarted.
pub(super) fn highest_log(folder: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(folder).ok()?;
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse::<u32>().ok());
    numbers.max()
}

/// Names in a folder; none if it is not there.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// True for a file that is there and empty.
pub(super) fn is_empty(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.len() == 0)
}

/// Removes a file.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    std::fs::remove_file(file)
}
