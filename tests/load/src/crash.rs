//! EdgeCore is killed a hundred times while pods come and go on a real containerd: no container of a pod runs twice, none
//! is restarted that did not end, nothing is left of pods that are gone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cri::{labels, v1};
use harness::wait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::pods::sightings::{Container, Sightings};
use crate::pods::{Api, Place, is_ready};
use crate::result::Results;

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value_t = 100)]
    kills: usize,
}

/// Makers of pods at work at once.
const MAKERS: usize = 4;
/// Pods that stay from the first kill to the last.
const STAYING: usize = 3;
/// How long EdgeCore lives before it is killed, and stays dead, in milliseconds: some kills meet its start.
const LIFE: (u64, u64) = (50, 2500);
const DEATH: (u64, u64) = (0, 500);
/// How often the runtime is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long EdgeCore has after the last kill to make all as the API wants it.
const SETTLE: Duration = Duration::from_secs(120);

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let place = Place::start(&flags.programs)?;
    for number in 0..STAYING {
        let name = format!("stays-{number}");
        place.runtime.block_on(async {
            place.api.create(&name, 1 + number).await?;
            place.api.wait(&name, "ready", is_ready).await
        })?;
    }
    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    let watcher = Arc::new(Watcher::default());
    let watching = place.runtime.spawn(watcher.clone().watch(place.cri.clone(), over.clone()));
    let makers: Vec<JoinHandle<Result<Made>>> = (0..MAKERS)
        .map(|maker| place.runtime.spawn(make_pods(maker, place.api.clone(), stop.clone())))
        .collect();

    println!("  killing EdgeCore {} times", flags.kills);
    for _ in 0..flags.kills {
        pause(LIFE);
        place.site.edge.kill9()?;
        pause(DEATH);
        place.site.edge.start()?;
    }
    println!("  kills are over, settling");
    let began = wait::now();
    let made = stopped(&place, makers, &stop)?;
    let orphaned = settle(&place)?;
    let settled = began.elapsed();
    over.cancel();
    place.runtime.block_on(async { watching.await.context("the watcher failed") })??;

    let mut results = Results::default();
    results.add("kills", "kills of EdgeCore", flags.kills);
    results.add("pods", "pods made", STAYING + made.pods);
    results.add("containers", "containers seen", watcher.containers());
    results.add("looks", "looks at the runtime", watcher.looks.load(Ordering::Relaxed));
    results.add("started_twice", "containers that ran twice at once", watcher.twice());
    results.add("stuck", "pods the API did not lose in time", made.stuck);
    results.add("orphaned", "left in the runtime of pods that are gone", orphaned);
    let restarted = watcher.restarted.load(Ordering::Relaxed);
    results.add("restarted_without_cause", "containers restarted that had not ended", restarted);
    results.add("restarted_with_cause", "containers whose start a kill cut off", watcher.cut_off());
    results.add("settled_s", "from the last kill until all is as the API says (s)", settled.as_secs());
    results.print();
    Ok(())
}

fn pause((least, most): (u64, u64)) {
    wait::pause(Duration::from_millis(rand::random_range(least..most)));
}

/// What a maker of pods did.
#[derive(Default)]
struct Made {
    pods: usize,
    /// Those that were not gone long after they were deleted.
    stuck: usize,
}

/// Stops the makers; gives what they did together.
fn stopped(place: &Place, makers: Vec<JoinHandle<Result<Made>>>, stop: &CancellationToken) -> Result<Made> {
    stop.cancel();
    let mut all = Made::default();
    for maker in makers {
        let made = place.runtime.block_on(maker)??;
        all = Made { pods: all.pods + made.pods, stuck: all.stuck + made.stuck };
    }
    Ok(all)
}

/// Makes pods and deletes them, in every state they can be in.
async fn make_pods(maker: usize, api: Api, stop: CancellationToken) -> Result<Made> {
    let mut made = Made::default();
    while !stop.is_cancelled() {
        let name = format!("pod-{maker}-{}", made.pods);
        api.create(&name, 1 + made.pods % 3).await?;
        made.pods += 1;
        let is_awaited = rand::random_bool(0.5);
        if is_awaited {
            api.wait(&name, "ready", is_ready).await?;
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..2000))).await;
        api.delete(&name).await?;
        if rand::random_bool(0.7)
            && let Err(error) = api.wait(&name, "gone", |pod| pod.is_none()).await
        {
            println!("  {error:#}");
            made.stuck += 1;
        }
    }
    Ok(made)
}

/// Waits until the runtime holds what the API wants, and says how much it holds beyond that.
fn settle(place: &Place) -> Result<usize> {
    let began = wait::now();
    loop {
        let (orphaned, missing) = place.runtime.block_on(differences(place))?;
        if (orphaned, missing) == (0, 0) || began.elapsed() > SETTLE {
            ensure!(missing == 0, "{missing} containers of pods that stay do not run");
            return Ok(orphaned);
        }
        wait::pause(Duration::from_millis(200));
    }
}

/// Sandboxes and containers of pods that the API does not have, or is about to lose; containers that should run.
async fn differences(place: &Place) -> Result<(usize, usize)> {
    let pods = place.api.list().await?;
    let stays = |name: &str| name.starts_with("stays-");
    let wanted: BTreeSet<&str> = pods
        .iter()
        .filter(|(name, _)| stays(name))
        .filter_map(|(_, pod)| pod["metadata"]["uid"].as_str())
        .collect();
    ensure!(wanted.len() == STAYING, "pods that stay are gone");
    let is_wanted = |uid: Option<&String>| uid.is_some_and(|uid| wanted.contains(uid.as_str()));
    let sandboxes = place.cri.list_pod_sandboxes(None).await?;
    let containers = place.cri.list_containers(None).await?;
    let beyond = sandboxes.iter().filter(|item| !is_wanted(item.labels.get(labels::POD_UID))).count()
        + containers.iter().filter(|item| !is_wanted(item.labels.get(labels::POD_UID))).count();
    let running = v1::ContainerState::ContainerRunning;
    let up = containers.iter().filter(|item| item.state() == running);
    let up = up.filter(|item| is_wanted(item.labels.get(labels::POD_UID))).count();
    let restarted = pods.iter().filter(|(name, _)| stays(name)).any(|(_, pod)| {
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        statuses.into_iter().any(|status| status["restartCount"] != 0)
    });
    ensure!(!restarted, "the API shows a restart of a pod that stays");
    Ok((beyond + pods.len() - wanted.len(), (1..=STAYING).sum::<usize>().saturating_sub(up)))
}

/// Looks at the runtime all the time.
#[derive(Default)]
struct Watcher {
    sightings: Mutex<Sightings>,
    looks: AtomicUsize,
    restarted: AtomicUsize,
    cut_off: AtomicUsize,
}

impl Watcher {
    async fn watch(self: Arc<Watcher>, cri: cri::Runtime, stop: CancellationToken) -> Result<()> {
        // One more look after the end.
        let mut last = false;
        while !last {
            last = stop.is_cancelled();
            let list = cri.list_containers(None).await?;
            self.looks.fetch_add(1, Ordering::Relaxed);
            let now: Vec<Container> = list.iter().map(seen).collect();
            let again = self.with(|sightings| sightings.look(&now));
            for container in again {
                let before = self.with(|sightings| sightings.before(&container));
                match was_cut_off(&cri, &before).await {
                    true => self.cut_off.fetch_add(1, Ordering::Relaxed),
                    false => {
                        println!("  restarted without cause: {container:?}");
                        self.restarted.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Sightings) -> T) -> T {
        look(&mut self.sightings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn twice(&self) -> usize {
        self.with(|sightings| sightings.twice())
    }

    fn containers(&self) -> usize {
        self.with(|sightings| sightings.count())
    }

    fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::Relaxed)
    }
}

/// Whether the run before never came up: the kill met its start. Containers here do not end by themselves. Of a run
/// that has been removed counts whether it was ever seen running.
async fn was_cut_off(cri: &cri::Runtime, before: &[Container]) -> bool {
    let Some(newest) = before.iter().max_by_key(|container| container.attempt) else { return false };
    match cri.container_status(&newest.id).await {
        Ok(status) => status.started_at == 0 || status.reason == "StartError",
        Err(_) => !newest.has_run,
    }
}

fn seen(item: &v1::Container) -> Container {
    let label = |key: &str| item.labels.get(key).cloned().unwrap_or_default();
    Container {
        id: item.id.clone(),
        place: (label(labels::POD_UID), label(labels::CONTAINER_NAME)),
        attempt: item.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        is_running: item.state() == v1::ContainerState::ContainerRunning,
        has_run: false,
    }
}
