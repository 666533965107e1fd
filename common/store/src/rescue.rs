//! Opening a database whose file is damaged or whose disk takes no writes.
//!
//! ```text
//! opens, and every page reads ------------------------------------------> Disk
//! damaged:  kept for the operator as NAME.damaged-N, a new one made --> Disk      [Recovery::Refill]
//! disk full or read-only: a copy in memory is read, writes are refused --> Frozen    [Recovery::Refill]
//! either, and nothing can fill it again -------------------------------> an error    [Recovery::Refuse]
//! ```

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use crate::{OpenError, Options, open};

/// What is done about a database that cannot be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// What is in it comes again from elsewhere: go on without.
    Refill,
    /// It is the only copy: leave it as it is and say so.
    Refuse,
}

/// Files of a database, as suffixes of its path.
const FILES: [&str; 3] = ["", "-wal", "-shm"];
/// Largest database copied into memory, in bytes.
const COPIED: u64 = 256 * 1024 * 1024;
/// Folders in memory.
const MEMORY: [&str; 2] = ["/run", "/dev/shm"];

/// A database opened for writing, and where; `scratch` is set if that is a copy, whose writes must be refused.
pub(crate) struct Opened {
    pub connection: Connection,
    pub path: PathBuf,
    pub scratch: Option<Scratch>,
}

/// Folder of a copy; removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is in memory: at worst the next start of the machine removes it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    let plain = |connection| Opened { connection, path: path.to_owned(), scratch: None };
    let error = match open::writer(path, options) {
        Ok(connection) => return Ok(plain(connection)),
        Err(error) => error,
    };
    if options.recovery == Recovery::Refuse {
        return Err(error);
    }
    match cause(&error) {
        Some(Cause::Damage) => {
            let kept = set_aside(path)?;
            tracing::error!(database = %path.display(), kept = %kept.display(), error = %full(&error), "the database is damaged: it is kept for a look, a new one is begun and filled from the cloud");
            open::writer(path, options).map(plain)
        }
        Some(Cause::Disk) => {
            let opened = copy(path, options)?;
            tracing::error!(database = %path.display(), error = %full(&error), "the disk of the database takes no writes: what it holds is served from memory, and nothing new is stored; make room or mount it for writing");
            Ok(opened)
        }
        None => Err(error),
    }
}

enum Cause {
    /// The file is no sound database.
    Damage,
    /// The disk cannot be written.
    Disk,
}

fn cause(error: &OpenError) -> Option<Cause> {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        OpenError::Damaged { .. } => Some(Cause::Damage),
        OpenError::Open { source, .. } | OpenError::Migrate { source, .. } => {
            match source.sqlite_error_code()? {
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure => Some(Cause::Disk),
                _ => None,
            }
        }
        OpenError::Create { source, .. } => {
            let kinds = [StorageFull, ReadOnlyFilesystem, QuotaExceeded, PermissionDenied];
            kinds.contains(&source.kind()).then_some(Cause::Disk)
        }
        _ => None,
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Damaged databases kept. The first ones say most; a disk that damages one after the other is not filled with them.
const KEPT: u32 = 3;

/// Renames the files of a damaged database; the new name of the first.
fn set_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let name = |number: u32| with_suffix(path, &format!(".damaged-{number}"));
    let free = (1..KEPT).find(|number| !name(*number).exists());
    let kept = name(free.unwrap_or(KEPT));
    for suffix in FILES {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&kept, suffix));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::SetAside { path: from, kept: to, source: error });
            }
            _ => {}
        }
    }
    Ok(kept)
}

/// Opens a copy in memory, of the database and what its log holds beyond it.
fn copy(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    let mut last = None;
    for memory in MEMORY {
        match copy_into(Path::new(memory), path) {
            Ok(scratch) => {
                let copied = scratch.0.join("copy.db");
                let connection = open::writer(&copied, options)?;
                return Ok(Opened { connection, path: copied, scratch: Some(scratch) });
            }
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(OpenError::Copy { path: path.to_owned(), source })
}

fn copy_into(memory: &Path, path: &Path) -> std::io::Result<Scratch> {
    let id = std::process::id();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = Scratch(memory.join(format!("causeway-{id}-{name}")));
    match std::fs::remove_dir_all(&scratch.0) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(&scratch.0)?;
    // What other files hold is made anew from these two.
    for suffix in ["", "-wal"] {
        let mut from = match std::fs::File::open(with_suffix(path, suffix)) {
            Ok(from) => from,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if from.metadata()?.len() > COPIED {
            return Err(std::io::Error::other("the database is too large for a copy in memory"));
        }
        let to = with_suffix(&scratch.0.join("copy.db"), suffix);
        let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        std::io::copy(&mut from, &mut to)?;
    }
    Ok(scratch)
}

fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
