//! EdgeCore is started a hundred times with a database or a configuration that is damaged, cut, older, empty or missing,
//! with and without a link: no container stops without cause, none is made twice, no foreign database is touched, and each
//! refusal names the file and the cure.

mod kinds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cri::{labels, v1};
use harness::wait;

use crate::pods::{Place, is_ready};
use crate::result::Results;
use kinds::{Damage, KINDS};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value_t = 100)]
    starts: usize,
}

const PODS: usize = 4;
/// How long EdgeCore runs on its own before its containers are counted, in milliseconds.
const ALONE: (u64, u64) = (1500, 3500);
/// A node in step again after longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running containers by pod and name.
type Running = BTreeMap<(String, String), String>;

#[derive(Default)]
struct Counts {
    starts: usize,
    refused: usize,
    unnamed: usize,
    stopped: usize,
    twice: usize,
    foreign: usize,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let place = Place::start(&flags.programs)?;
    let names: Vec<String> = (0..PODS).map(|number| format!("stays-{number}")).collect();
    let (first, rest) = names.split_at(PODS / 2);
    make(&place, first)?;
    // The older database knows the first pods only.
    let keep = Kept::take(&place)?;
    make(&place, rest)?;
    let before = place.runtime.block_on(running(&place.cri))?;
    ensure!(before.len() == PODS, "{} of {PODS} containers run", before.len());
    let mut counts = Counts::default();
    for start in 0..flags.starts {
        let kind = KINDS[start % KINDS.len()];
        let linked = rand::random_bool(0.5);
        once(&place, &keep, kind, linked, &before, &mut counts).with_context(|| {
            format!("start {start}: {kind:?}, link {}", if linked { "up" } else { "down" })
        })?;
    }
    let mut results = Results::default();
    results.add("starts", "starts with something damaged", counts.starts);
    results.add("refused", "that were refused", counts.refused);
    results.add("refused_without_name_or_cure", "refusals that name no file or no cure", counts.unnamed);
    results.add("stopped_without_cause", "containers that were stopped", counts.stopped);
    results.add("made_twice", "containers made beside those that run", counts.twice);
    results.add("foreign_touched", "foreign databases that were changed", counts.foreign);
    results.print();
    Ok(())
}

fn make(place: &Place, names: &[String]) -> Result<()> {
    place.runtime.block_on(async {
        for name in names {
            place.api.create(name, 1).await?;
            place.api.wait(name, "ready", is_ready).await?;
        }
        Ok(())
    })
}

/// What is put back, or in place of what is there.
struct Kept {
    older: PathBuf,
    config: Vec<u8>,
}

impl Kept {
    /// EdgeCore is started anew for it: its log is in the file then.
    fn take(place: &Place) -> Result<Kept> {
        let older = place.site.folder().join("older.db");
        place.site.edge.kill9()?;
        ended(place)?;
        let database = store::rusqlite::Connection::open(place.site.edge.database())?;
        database.execute("VACUUM INTO ?1", [older.to_string_lossy()])?;
        drop(database);
        let config = std::fs::read(config(place))?;
        place.site.edge.start()?;
        Ok(Kept { older, config })
    }
}

fn config(place: &Place) -> PathBuf {
    place.site.edge.root.join("etc/kubeedge/config/edgecore.yaml")
}

fn ended(place: &Place) -> Result<()> {
    wait::for_true("EdgeCore has ended", PATIENCE, || Ok(place.site.edge.pid().is_err()))
}

/// One start. What was refused is put right as its operator would, and started again.
fn once(
    place: &Place,
    kept: &Kept,
    kind: Damage,
    linked: bool,
    before: &Running,
    counts: &mut Counts,
) -> Result<()> {
    let (edge, database, config) = (&place.site.edge, place.site.edge.database(), config(place));
    edge.kill9()?;
    ended(place)?;
    if !linked {
        place.site.relay.cut();
    }
    let damaged = kind.apply(&database, &config, &kept.older)?;
    let log_before = std::fs::metadata(edge.log())?.len();
    edge.start()?;
    counts.starts += 1;
    if let Some(file) = &damaged.refused {
        ended(place)?;
        counts.refused += 1;
        let told = since(&edge.log(), log_before)?;
        let name = file.to_string_lossy();
        if !(told.contains(&*name) && kind.cures().iter().any(|cure| told.contains(cure))) {
            println!("  {kind:?}: {}", told.trim());
            counts.unnamed += 1;
        }
        if let Damage::ForeignDatabase = kind {
            counts.foreign += usize::from(std::fs::read(&database)? != damaged.bytes);
        }
        look(place, before, counts)?;
        std::fs::write(&config, &kept.config)?;
        for suffix in ["", "-wal", "-shm"] {
            let aside = PathBuf::from(format!("{}.aside{suffix}", database.display()));
            if aside.exists() {
                std::fs::rename(aside, format!("{}{suffix}", database.display()))?;
            }
        }
        edge.start()?;
    }
    wait::pause(Duration::from_millis(rand::random_range(ALONE.0..ALONE.1)));
    ensure!(edge.pid().is_ok(), "EdgeCore ended: {}", since(&edge.log(), log_before)?);
    look(place, before, counts)?;
    place.site.relay.heal();
    in_step(&database)?;
    look(place, before, counts)
}

/// Waits until the database has every pod again.
fn in_step(database: &Path) -> Result<()> {
    wait::for_true("the database has every pod", PATIENCE, || {
        let flags = store::rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let Ok(database) = store::rusqlite::Connection::open_with_flags(database, flags) else {
            return Ok(false);
        };
        let count = "SELECT count(*) FROM meta WHERE type = 'pod' AND json_valid(value)";
        let count: Result<i64, _> = database.query_row(count, [], |row| row.get(0));
        Ok(count.is_ok_and(|count| count == PODS as i64))
    })
}

/// Compares what runs with what ran before all damage.
fn look(place: &Place, before: &Running, counts: &mut Counts) -> Result<()> {
    let containers = place.runtime.block_on(place.cri.list_containers(None))?;
    let now = place.runtime.block_on(running(&place.cri))?;
    let stopped = before.iter().filter(|(place, id)| now.get(place) != Some(id)).count();
    let twice = containers.len().saturating_sub(before.len());
    counts.stopped += stopped;
    counts.twice += twice;
    if stopped + twice > 0 {
        bail!("{stopped} containers stopped and {twice} made: {now:?} instead of {before:?}");
    }
    Ok(())
}

async fn running(cri: &cri::Runtime) -> Result<Running> {
    let containers = cri.list_containers(None).await?;
    let up = containers.into_iter().filter(|item| item.state() == v1::ContainerState::ContainerRunning);
    let label = |item: &v1::Container, key: &str| item.labels.get(key).cloned().unwrap_or_default();
    Ok(up
        .map(|item| ((label(&item, labels::POD_UID), label(&item, labels::CONTAINER_NAME)), item.id))
        .collect())
}

/// What a log says from `offset` on.
fn since(log: &Path, offset: u64) -> Result<String> {
    let text = std::fs::read(log)?;
    let at = usize::try_from(offset)?.min(text.len());
    Ok(String::from_utf8_lossy(&text[at..]).into_owned())
}
