//! The edge's one SQLite file. The first tables have KubeEdge's names and columns, so its database can be taken over
//! and opened with the same tools (docs/protocol/edge-runtime.md 2.1, docs/protocol/devices.md 3.3).

use std::path::{Path, PathBuf};
use std::time::Duration;

use store::{FolderLock, OpenError, Options, Recovery, Store};
use tokio_util::sync::CancellationToken;

const KUBEEDGE_TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, type TEXT, value TEXT);
ALTER TABLE meta ADD COLUMN uid TEXT;
ALTER TABLE meta ADD COLUMN version TEXT;
CREATE INDEX meta_type ON meta(type);
CREATE TABLE IF NOT EXISTS device (id TEXT PRIMARY KEY, name TEXT, description TEXT, state TEXT, last_online TEXT);
CREATE TABLE IF NOT EXISTS device_attr (id INTEGER PRIMARY KEY AUTOINCREMENT, deviceid TEXT, name TEXT,
  description TEXT, value TEXT, optional NUMERIC, attr_type TEXT, metadata TEXT);
CREATE TABLE IF NOT EXISTS device_twin (id INTEGER PRIMARY KEY AUTOINCREMENT, deviceid TEXT, name TEXT,
  description TEXT, expected TEXT, actual TEXT, expected_meta TEXT, actual_meta TEXT, expected_version TEXT,
  actual_version TEXT, optional NUMERIC, attr_type TEXT, metadata TEXT);
CREATE INDEX device_twin_device ON device_twin(deviceid);
CREATE TABLE IF NOT EXISTS sub_topics (topic TEXT PRIMARY KEY);
";

const OUTBOX: &str = "
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, merge_key TEXT UNIQUE,
  message TEXT NOT NULL) STRICT;
CREATE INDEX outbox_stream ON outbox(stream, seq);
";

/// Marks of the native dialect, the identity of this database, and the bytes each stream of the outbox holds.
const NATIVE: &str = "
ALTER TABLE meta ADD COLUMN mark INTEGER;
CREATE TABLE removed (seq INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, version TEXT NOT NULL) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO facts VALUES ('store', lower(hex(randomblob(12))));
CREATE TABLE outbox_bytes (stream TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
INSERT INTO outbox_bytes SELECT stream, sum(length(message)) FROM outbox GROUP BY stream;
CREATE TRIGGER outbox_added AFTER INSERT ON outbox BEGIN
  INSERT INTO outbox_bytes VALUES (NEW.stream, length(NEW.message))
    ON CONFLICT(stream) DO UPDATE SET bytes = bytes + length(NEW.message);
END;
CREATE TRIGGER outbox_removed AFTER DELETE ON outbox BEGIN
  UPDATE outbox_bytes SET bytes = bytes - length(OLD.message) WHERE stream = OLD.stream;
END;
";

/// A twin is found by its name: a value would else cost as much as its device has properties.
const TWIN_NAMES: &str = "
CREATE INDEX device_twin_name ON device_twin(deviceid, name);
DROP INDEX device_twin_device;
";

const OPTIONS: Options = Options {
    migrations: &[KUBEEDGE_TABLES, OUTBOX, NATIVE, TWIN_NAMES],
    cache_kib: 1024,
    log_pages: 400,
    readers: 2,
    taken_over: Some("meta"),
    recovery: Recovery::Refill,
};

/// The scripts that make the tables, in order.
pub fn schema() -> &'static [&'static str] {
    OPTIONS.migrations
}

/// Opens or creates the database.
pub fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, &OPTIONS)
}

/// Keeps other EdgeCores off the database's folder.
pub async fn lock(path: &Path) -> Result<FolderLock, OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    store::lock(folder.unwrap_or(Path::new("."))).await
}

/// The disk takes writes again: the database is opened anew, by another start.
#[derive(Debug, thiserror::Error)]
#[error("the disk of database {0} takes writes again, starting over with it")]
pub struct Thawed(PathBuf);

/// How often a disk that took no writes is tried, and with how much.
const TRY: Duration = Duration::from_secs(10);
const ROOM: usize = 1024 * 1024;

/// Ends with [`Thawed`] when the disk of a frozen database takes writes again. Containers go on over the new start.
pub async fn thawed(path: PathBuf, stop: CancellationToken) -> Result<(), Thawed> {
    loop {
        tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            _ = tokio::time::sleep(TRY) => {}
        }
        let probe = path.with_extension("probe");
        let written = daemon::blocking(move || try_to_write(&probe));
        if written.await.is_ok() {
            return Err(Thawed(path));
        }
    }
}

/// Writes a file and removes it again. Blocks.
#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn try_to_write(probe: &Path) -> std::io::Result<()> {
    use std::io::Write;
    let written = std::fs::File::create(probe).and_then(|mut file| {
        file.write_all(&vec![0; ROOM])?;
        file.sync_all()
    });
    // Also what a full disk has taken of it.
    let _ = std::fs::remove_file(probe);
    written
}

/// A database in memory: load tests run thousands of edges in one process.
pub fn in_memory() -> Result<Store, OpenError> {
    Store::in_memory(&OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_written_by_kubeedge_is_taken_over_with_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edgecore.db");
        let theirs = store::rusqlite::Connection::open(&path).unwrap();
        let schema = include_str!("../../../tests/interop/golden/edgecore-sqlite-schema.sql")
            .replace("CREATE TABLE sqlite_sequence(name,seq);", "");
        theirs.execute_batch(&schema).unwrap();
        theirs
            .execute(
                "INSERT INTO meta(key, type, value) VALUES ('default/configmap/a', 'configmap', '{}')",
                [],
            )
            .unwrap();
        drop(theirs);
        let store = open(&path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let rows: i64 = runtime
            .block_on(store.read(|c| {
                c.query_row("SELECT count(*) FROM meta WHERE version IS NULL", [], |row| row.get(0))
            }))
            .unwrap();
        assert_eq!(rows, 1);
    }
}
