//! What can be wrong with a database or a configuration file. EdgeCore is not running.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::RngExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    MissingDatabase,
    EmptyDatabase,
    CutDatabase,
    OverwrittenHeader,
    OverwrittenPages,
    OlderDatabase,
    /// The log of the last transactions is gone.
    MissingLog,
    OverwrittenLog,
    /// Rows of pods that no longer read as JSON.
    CutRows,
    /// A sound database of another program.
    ForeignDatabase,
    MissingConfig,
    EmptyConfig,
    CutConfig,
    /// A file of the cloud's program.
    OtherConfig,
}

pub(super) const KINDS: [Damage; 14] = [
    Damage::MissingDatabase,
    Damage::EmptyConfig,
    Damage::CutDatabase,
    Damage::OverwrittenHeader,
    Damage::CutConfig,
    Damage::OverwrittenPages,
    Damage::OlderDatabase,
    Damage::ForeignDatabase,
    Damage::MissingLog,
    Damage::OverwrittenLog,
    Damage::OtherConfig,
    Damage::CutRows,
    Damage::EmptyDatabase,
    Damage::MissingConfig,
];

/// What was done.
#[derive(Default)]
pub(super) struct Damaged {
    /// The file that EdgeCore has to refuse by name.
    pub refused: Option<PathBuf>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

const PAGE: usize = 4096;

impl Damage {
    /// Words of which a refusal has to say one.
    pub(super) fn cures(self) -> &'static [&'static str] {
        match self {
            Damage::ForeignDatabase => &["name another file"],
            _ => &["apiVersion", "keadm", "defaultconfig", "minconfig"],
        }
    }

    pub(super) fn apply(self, database: &Path, config: &Path, older: &Path) -> Result<Damaged> {
        let refused = |bytes: Vec<u8>| Ok(Damaged { refused: Some(config.to_owned()), bytes });
        let log = with(database, "-wal");
        match self {
            Damage::MissingDatabase => remove(database)?,
            Damage::EmptyDatabase => {
                remove(database)?;
                std::fs::write(database, b"")?;
            }
            Damage::CutDatabase => change(database, |bytes| {
                let length = rand::rng().random_range(1..bytes.len());
                bytes.truncate(length);
            })?,
            Damage::OverwrittenHeader => change(database, |bytes| rand::rng().fill(&mut bytes[..100]))?,
            Damage::OverwrittenPages => change(database, |bytes| {
                let page = rand::rng().random_range(1..bytes.len() / PAGE);
                rand::rng().fill(&mut bytes[page * PAGE..(page + 1) * PAGE]);
            })?,
            Damage::OlderDatabase => {
                remove(database)?;
                std::fs::copy(older, database)?;
            }
            Damage::MissingLog => match std::fs::remove_file(&log) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            },
            Damage::OverwrittenLog if log.exists() => {
                let mut bytes = std::fs::read(&log)?;
                let from = bytes.len() / 2;
                rand::rng().fill(&mut bytes[from..]);
                std::fs::write(&log, bytes)?;
            }
            Damage::OverwrittenLog => {}
            Damage::CutRows => {
                let rows = store::rusqlite::Connection::open(database)?;
                rows.execute("UPDATE meta SET value = substr(value, 1, 40) WHERE type = 'pod'", [])?;
            }
            Damage::ForeignDatabase => {
                for suffix in ["", "-wal", "-shm"] {
                    let from = with(database, suffix);
                    if from.exists() {
                        std::fs::rename(&from, format!("{}.aside{suffix}", database.display()))?;
                    }
                }
                let theirs = store::rusqlite::Connection::open(database)?;
                theirs.execute_batch("CREATE TABLE invoices(number); INSERT INTO invoices VALUES (7)")?;
                drop(theirs);
                let bytes = std::fs::read(database)?;
                return Ok(Damaged { refused: Some(database.to_owned()), bytes });
            }
            Damage::MissingConfig => {
                std::fs::remove_file(config)?;
                return refused(Vec::new());
            }
            Damage::EmptyConfig => {
                std::fs::write(config, b"")?;
                return refused(Vec::new());
            }
            Damage::CutConfig => {
                let text = std::fs::read_to_string(config)?;
                // Before the version and the kind, or in the middle of a word.
                let without: Vec<&str> = text
                    .lines()
                    .filter(|line| !line.starts_with("apiVersion") && !line.starts_with("kind"))
                    .collect();
                std::fs::write(config, without.join("\n"))?;
                return refused(std::fs::read(config)?);
            }
            Damage::OtherConfig => {
                std::fs::write(
                    config,
                    b"apiVersion: cloudcore.config.kubeedge.io/v1alpha2\nkind: CloudCore\n",
                )?;
                return refused(std::fs::read(config)?);
            }
        }
        Ok(Damaged::default())
    }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn remove(database: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(with(database, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn change(path: &Path, work: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    // What the log holds is in the file first, as after a stop.
    let database = store::rusqlite::Connection::open(path)?;
    let _: i64 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    drop(database);
    let mut bytes = std::fs::read(path)?;
    work(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}
