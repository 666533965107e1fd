//! Where log lines go: standard error, or a file of bounded size for programs that no service manager logs for.
//!
//! `<file>` -> `<file>.1` -> `<file>.2`; what a panic or a library says on standard error goes to the same file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes of one file.
const MOST: u64 = 10 << 20;
/// Files that are kept, the one that is written among them.
const FILES: u32 = 3;
/// Logs name pods and addresses: they are not for everyone.
const MODE: u32 = 0o640;

static KEPT: OnceLock<Mutex<Rotated>> = OnceLock::new();

/// Writes the log to `path` from now on. Call once, before the first line.
///
/// # Errors
/// The file cannot be opened.
pub fn keep(path: &Path) -> io::Result<()> {
    let rotated = Rotated::open(path.to_owned(), MOST)?;
    rotated.take_over()?;
    let _ = KEPT.set(Mutex::new(rotated));
    Ok(())
}

/// A writer of one line.
pub fn writer() -> Line {
    Line
}

/// Writes to where the log is.
pub struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(kept) = KEPT.get() else { return io::stderr().write(bytes) };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.make_room(bytes.len() as u64) {
            // Words of others go to the new file as well; if they cannot, they go on in the old one.
            let _ = kept.take_over();
        }
        kept.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file and its predecessors.
struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    most: u64,
}

impl Rotated {
    fn open(path: PathBuf, most: u64) -> io::Result<Rotated> {
        let file = File::options().create(true).append(true).mode(MODE).open(&path)?;
        // It may be older than this rule, and the umask is none of its concern.
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        let size = file.metadata()?.len();
        Ok(Rotated { path, file, size, most })
    }

    /// Standard output and error go to the file too.
    fn take_over(&self) -> io::Result<()> {
        rustix::stdio::dup2_stdout(&self.file)?;
        rustix::stdio::dup2_stderr(&self.file)?;
        Ok(())
    }

    /// Begins a new file if so many bytes do not fit. True if it did.
    fn make_room(&mut self, bytes: u64) -> bool {
        if self.size == 0 || self.size + bytes <= self.most {
            return false;
        }
        let name = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // What cannot be renamed is written over: the bound counts more than the oldest lines.
        for number in (1..FILES - 1).rev() {
            let _ = std::fs::rename(name(number), name(number + 1));
        }
        let renamed = std::fs::rename(&self.path, name(1));
        let opened = Rotated::open(self.path.clone(), self.most);
        match (renamed, opened) {
            (Ok(()), Ok(opened)) => *self = opened,
            _ => {
                let _ = self.file.set_len(0);
                self.size = 0;
            }
        }
        true
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_newest_lines_in_few_files_that_are_not_for_everyone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.log");
        std::fs::write(&path, "old\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut log = Rotated::open(path.clone(), 100).unwrap();
        for number in 0..100 {
            let line = format!("line {number:>4}\n");
            log.make_room(line.len() as u64);
            log.write(line.as_bytes()).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        assert_eq!(names.len(), FILES as usize);
        for entry in &names {
            let meta = entry.metadata().unwrap();
            assert_eq!((meta.permissions().mode() & 0o777, meta.len() <= 100), (MODE, true));
        }
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text("edgecore.log").ends_with("line   99\n"));
        assert!(!(text("edgecore.log.1") + &text("edgecore.log.2")).contains("old"));
    }
}
