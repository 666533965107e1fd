use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("creating database file {path}")]
    Create { path: PathBuf, source: std::io::Error },
    #[error("opening database {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("migrating database {path} to schema version {version}")]
    Migrate { path: PathBuf, version: usize, source: rusqlite::Error },
    #[error(
        "database {path} has schema version {found}, newer than {known} which this program knows; upgrade the program"
    )]
    FromTheFuture { path: PathBuf, found: usize, known: usize },
    #[error("database {path} is that of another program and was left as it is; name another file")]
    Foreign { path: PathBuf },
    #[error("locking data folder {folder}")]
    Lock { folder: PathBuf, source: std::io::Error },
    #[error(
        "data folder {folder} is in use by {holder}; stop that program first, or give this one a folder of its own"
    )]
    InUse { folder: PathBuf, holder: String },
    #[error(
        "database {path} is damaged ({found}); put a backup in its place, or keep it and start without (what it held is then gone)"
    )]
    Damaged { path: PathBuf, found: String },
    #[error("renaming {path} of a damaged database to {kept}")]
    SetAside { path: PathBuf, kept: PathBuf, source: std::io::Error },
    #[error(
        "the disk of database {path} takes no writes, and a copy in memory could not be made; make room or mount it for writing"
    )]
    Copy { path: PathBuf, source: std::io::Error },
    #[error("starting the database writer thread")]
    Thread { source: std::io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database statement failed")]
    Statement(#[source] rusqlite::Error),
    #[error("database commit failed")]
    Commit(#[source] rusqlite::Error),
    #[error("the commit that this write shared failed: {reason}")]
    SharedCommit { reason: String },
    #[error("a database write failed by a panic: {0}")]
    Panicked(String),
    #[error("the disk of the database took no writes when this program started, nothing new is stored")]
    Frozen,
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// True if the disk is full: the write was undone and may be tried again after space is made.
    pub fn is_disk_full(&self) -> bool {
        match self {
            StoreError::Statement(error) | StoreError::Commit(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            StoreError::Frozen => true,
            StoreError::SharedCommit { .. } | StoreError::Panicked(_) | StoreError::Closed => false,
        }
    }

    /// True if the file turned out to be damaged: only another start helps.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            StoreError::Statement(error) | StoreError::Commit(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }
}
