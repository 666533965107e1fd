//! Thousands of pods come and go: what EdgeCore holds afterwards, in memory, open files, mounts, cgroups and on disk, is
//! what it held before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{containerd, memory, wait};

use crate::pods::{Api, Place, is_ready};
use crate::result::{Results, rounded};

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value_t = 2000)]
    cycles: usize,
    /// Cycles under way at once.
    #[arg(long, default_value_t = 8)]
    beside: usize,
    /// Cycles before the first measurement.
    #[arg(long, default_value_t = 100)]
    warm_up: usize,
}

/// How long EdgeCore has to clear up after the last pod.
const SETTLE: Duration = Duration::from_secs(120);
/// Time for memory to settle.
const REST: Duration = Duration::from_secs(3);

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let place = Place::start(&flags.programs)?;
    println!("  warming up with {} cycles", flags.warm_up);
    cycles(&place, "warm", flags.warm_up, flags.beside)?;
    let before = Held::measure(&place)?;
    let one = with_one_pod(&place)?;
    println!("  {} cycles", flags.cycles);
    let began = wait::now();
    cycles(&place, "pod", flags.cycles, flags.beside)?;
    let took = began.elapsed();
    let after = Held::measure(&place)?;

    let mut results = Results::default();
    results.add("cycles", "pods made, run and deleted", flags.cycles);
    results.add("cycles_per_s", "cycles per second", rounded(flags.cycles as f64 / took.as_secs_f64()));
    for (key, what, value) in before.until(&after) {
        results.add(key, what, value);
    }
    results.add("pod_mounts", "mounts of one pod", one.mounts.saturating_sub(before.mounts));
    results.add("pod_cgroups", "cgroups of one pod", one.cgroups.saturating_sub(before.cgroups));
    results.add("pod_folders", "folders of one pod", one.pod_folders.saturating_sub(before.pod_folders));
    results.add("pod_logs", "folders of logs of one pod", one.log_folders.saturating_sub(before.log_folders));
    results.add("rss_kb", "EdgeCore resident at the end (KiB)", after.rss_kb);
    results.add("fds", "open files of EdgeCore at the end", after.files);
    results.print();
    Ok(())
}

/// What is held while one pod runs: that the counting sees it.
fn with_one_pod(place: &Place) -> Result<Held> {
    place.runtime.block_on(async {
        place.api.create("one", 1).await?;
        place.api.wait("one", "ready", is_ready).await
    })?;
    let held = Held::now(place)?;
    place.runtime.block_on(async {
        place.api.delete("one").await?;
        place.api.wait("one", "gone", |pod| pod.is_none()).await
    })?;
    Ok(held)
}

/// Runs `count` pods from their making to their end.
fn cycles(place: &Place, prefix: &'static str, count: usize, beside: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..beside)
        .map(|_| place.runtime.spawn(work(place.api.clone(), prefix, next.clone(), count)))
        .collect();
    for worker in workers {
        place.runtime.block_on(worker)??;
    }
    Ok(())
}

async fn work(api: Api, prefix: &'static str, next: Arc<AtomicUsize>, count: usize) -> Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        let name = format!("{prefix}-{number}");
        api.create(&name, 1).await?;
        api.wait(&name, "ready", is_ready).await?;
        api.delete(&name).await?;
        api.wait(&name, "gone", |pod| pod.is_none()).await?;
    }
}

/// What EdgeCore holds.
struct Held {
    rss_kb: u64,
    files: usize,
    mounts: usize,
    cgroups: usize,
    pod_folders: usize,
    log_folders: usize,
    database_kb: u64,
}

impl Held {
    /// Waits until nothing of a pod runs, then measures.
    fn measure(place: &Place) -> Result<Held> {
        wait::for_true("no container left", SETTLE, || {
            let left = place.runtime.block_on(place.cri.list_pod_sandboxes(None))?;
            ensure!(left.is_empty(), "{} sandboxes are left", left.len());
            Ok(true)
        })?;
        wait::pause(REST);
        Held::now(place)
    }

    fn now(place: &Place) -> Result<Held> {
        let site = &place.site;
        let pid = site.edge.pid()?;
        let database = site.edge.database();
        let wal = database.with_extension("db-wal");
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
        Ok(Held {
            rss_kb: memory::median_kb(pid)?,
            files: entries(Path::new(&format!("/proc/{pid}/fd")))?,
            mounts: containerd::mounts_below(&site.edge.root).len(),
            cgroups: cgroups(&site.edge.cgroup())?,
            pod_folders: entries(&site.edge.root.join("var/lib/kubelet/pods"))?,
            log_folders: entries(&site.edge.pod_logs())?,
            database_kb: (size(&database) + size(&wal)) / 1024,
        })
    }

    fn until(&self, after: &Held) -> Vec<(&'static str, &'static str, i64)> {
        let grown = |before: usize, after: usize| after as i64 - before as i64;
        vec![
            ("rss_delta_kb", "EdgeCore resident, grown (KiB)", after.rss_kb as i64 - self.rss_kb as i64),
            ("fd_delta", "open files, more", grown(self.files, after.files)),
            ("mount_delta", "mounts, more", grown(self.mounts, after.mounts)),
            ("cgroup_delta", "cgroups, more", grown(self.cgroups, after.cgroups)),
            ("pod_folder_delta", "folders of pods, more", grown(self.pod_folders, after.pod_folders)),
            ("log_folder_delta", "folders of logs, more", grown(self.log_folders, after.log_folders)),
            (
                "database_delta_kb",
                "database, grown (KiB)",
                after.database_kb as i64 - self.database_kb as i64,
            ),
        ]
    }
}

fn entries(folder: &Path) -> Result<usize> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    Ok(entries.count())
}

/// Groups below those of this name, in every hierarchy.
fn cgroups(name: &str) -> Result<usize> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).context("reading the cgroups")?.flatten();
    let own = hierarchies.map(|entry| entry.path().join(name)).chain([root.join(name)]);
    Ok(own.filter(|path| path.is_dir()).map(|path| groups_in(&path)).sum())
}

fn groups_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir()).map(|entry| 1 + groups_in(&entry.path())).sum()
}
