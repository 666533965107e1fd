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
            StoreError::SharedCommit { .. } | StoreError::Panicked(_) | StoreError::Closed => false,
        }
    }
}
