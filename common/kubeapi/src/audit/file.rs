//! The file: private to its owner, and put aside when it is full.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const MODE: u32 = 0o600;

/// Where the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Made with mode 0600 in a folder that exists.
    pub path: PathBuf,
    /// A file that would grow beyond this is put aside.
    pub max_bytes: u64,
    /// Files put aside that are kept: `PATH.1` is the newest.
    pub backups: usize,
}

impl Settings {
    /// Six files of 100 MiB.
    pub fn at(path: PathBuf) -> Settings {
        Settings { path, max_bytes: 100 * 1024 * 1024, backups: 5 }
    }
}

pub(super) struct Rotating {
    settings: Settings,
    /// `None` after a failure.
    open: Option<Open>,
}

struct Open {
    file: File,
    size: u64,
}

impl Rotating {
    pub(super) fn open(settings: Settings) -> io::Result<Rotating> {
        let open = Some(Open::at(&settings.path)?);
        Ok(Rotating { settings, open })
    }

    /// Adds whole lines. After a failure the file is opened anew by the next call.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::at(&self.settings.path)?,
        };
        if open.size > 0 && open.size + lines.len() as u64 > self.settings.max_bytes {
            drop(open);
            self.put_aside()?;
            open = Open::at(&self.settings.path)?;
        }
        open.file.write_all(lines)?;
        open.size += lines.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// `audit.log` becomes `audit.log.1`, and so on; the oldest goes.
    fn put_aside(&self) -> io::Result<()> {
        let Settings { path, backups, .. } = &self.settings;
        if *backups == 0 {
            return std::fs::remove_file(path);
        }
        for number in (1..*backups).rev() {
            match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(path, numbered(path, 1))
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // A line that was broken off stays one line.
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Open { file, size })
    }
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_the_oldest_goes_and_all_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let settings = Settings { path: path.clone(), max_bytes: 10, backups: 2 };
        let mut file = Rotating::open(settings).unwrap();
        for line in ["one 45678\n", "two 45678\n", "three678\n", "4\n", "a line that is longer than a file\n"]
        {
            file.append(line.as_bytes()).unwrap();
        }
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&path), "a line that is longer than a file\n");
        assert_eq!(text(&numbered(&path, 1)), "4\n");
        assert_eq!(text(&numbered(&path, 2)), "three678\n");
        assert!(!numbered(&path, 3).exists());
        for path in [path.clone(), numbered(&path, 1), numbered(&path, 2)] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, MODE);
        }
    }

    #[test]
    fn a_line_that_was_broken_off_does_not_take_the_next_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"half").unwrap();
        let mut file = Rotating::open(Settings::at(path.clone())).unwrap();
        file.append(b"{}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n{}\n");
    }

    #[test]
    fn a_file_that_failed_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("audit.log");
        let mut file = Rotating { settings: Settings::at(path.clone()), open: None };
        assert!(file.append(b"1\n").is_err());
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n");
    }
}
