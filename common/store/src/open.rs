//! Opening, pragmas and migrations.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::{OpenError, Options};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes that the file of the write-ahead log may keep, at least, when it is empty.
const LOG: u64 = 4 * 1024 * 1024;

pub(crate) fn writer(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    create_private(path)?;
    let open_error = |source| open_error(path, source);
    let mut connection = Connection::open(path).map_err(open_error)?;
    check_ours(&connection, path, options)?;
    check(&connection, path)?;
    // auto_vacuum must come before the first table and before WAL.
    connection
        .execute_batch(&format!(
            "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             PRAGMA busy_timeout=5000; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY;
             PRAGMA secure_delete=ON; PRAGMA wal_autocheckpoint={}; PRAGMA journal_size_limit={}; PRAGMA cache_size=-{};",
            options.log_pages,
            (u64::from(options.log_pages) * PAGE).max(LOG),
            options.cache_kib
        ))
        .map_err(open_error)?;
    migrate(&mut connection, path, options.migrations)?;
    Ok(connection)
}

/// Nothing is written to a database of another program, nor of a newer version of this one.
fn check_ours(connection: &Connection, path: &Path, options: &Options) -> Result<(), OpenError> {
    let open_error = |source| open_error(path, source);
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open_error)?;
    let known = options.migrations.len();
    if found as usize > known {
        return Err(OpenError::FromTheFuture { path: path.to_owned(), found: found as usize, known });
    }
    let taken_over = options.taken_over.unwrap_or_default();
    let (tables, is_taken_over): (u32, bool) = connection
        .query_row(
            "SELECT count(*), coalesce(max(name = ?1), 0) FROM sqlite_master WHERE type = 'table'",
            [taken_over],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(open_error)?;
    match found == 0 && tables > 0 && !is_taken_over {
        true => Err(OpenError::Foreign { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Reads every page: damage in the middle of a file would otherwise show when a row of it is asked for.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: Result<String, _> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(OpenError::Damaged { path: path.to_owned(), found }),
        Err(source) => Err(open_error(path, source)),
    }
}

fn open_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, found: source.to_string() }
        }
        _ => OpenError::Open { path, source },
    }
}

pub(crate) fn memory(options: &Options) -> Result<Connection, OpenError> {
    let path = Path::new(":memory:");
    let open_error = |source| OpenError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open_in_memory().map_err(open_error)?;
    // Small pages: most tables hold a row or none.
    connection
        .execute_batch(&format!("PRAGMA page_size=1024; PRAGMA cache_size=-{};", options.cache_kib))
        .map_err(open_error)?;
    migrate(&mut connection, path, options.migrations)?;
    Ok(connection)
}

pub(crate) fn reader(path: &Path, options: &Options) -> Result<Connection, OpenError> {
    let open_error = |source| OpenError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(open_error)?;
    connection
        .execute_batch(&format!("PRAGMA busy_timeout=5000; PRAGMA cache_size=-{};", options.cache_kib))
        .map_err(open_error)?;
    Ok(connection)
}

/// SQLite gives its WAL and shared-memory files the mode of the database file.
fn create_private(path: &Path) -> Result<(), OpenError> {
    let create_error = |source| OpenError::Create { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(create_error)?;
    }
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
        .map_err(create_error)
}

fn migrate(connection: &mut Connection, path: &Path, scripts: &[&str]) -> Result<(), OpenError> {
    let open_error = |source| open_error(path, source);
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(open_error)?;
    for (at, script) in scripts.iter().enumerate().skip(found as usize) {
        let version = at + 1;
        let migrate_error = |source| OpenError::Migrate { path: path.to_owned(), version, source };
        let transaction = connection.transaction().map_err(migrate_error)?;
        transaction.execute_batch(script).map_err(migrate_error)?;
        transaction.pragma_update(None, "user_version", version as u32).map_err(migrate_error)?;
        transaction.commit().map_err(migrate_error)?;
    }
    Ok(())
}
