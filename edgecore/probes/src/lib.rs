//! Probes and hooks: asks containers how they are (docs/protocol/edge-runtime.md 5.8).
//!
//! One task per running container and probe kind, owned by the pod's worker; a result that changed wakes the worker,
//! which reads the results as sets of container ids.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod grpc;
pub mod handler;
mod http;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::task::AbortHandle;

use handler::{ProbeOutcome, Target};
use nodebase::clock::Clock;
use nodebase::events::{Events, Kind as Severity};
use nodebase::steady::steady;
use podmodel::observed::Instance;
use podmodel::spec::PodId;
use tally::Tally;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Readiness,
    Liveness,
    Startup,
}

type Key = (String, Kind);
/// Container id and kind -> succeeded; absent before the first result.
type Results = Arc<Mutex<BTreeMap<Key, bool>>>;

/// The probes of one pod.
#[derive(Default)]
pub struct Probes {
    results: Results,
    tasks: BTreeMap<Key, AbortHandle>,
}

/// What probes say about running containers, as ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    pub unready: BTreeSet<String>,
    pub starting: BTreeSet<String>,
    pub unhealthy: BTreeSet<String>,
}

/// What tasks need besides their probe.
pub struct Surroundings {
    pub runtime: cri::Runtime,
    pub clock: Clock,
    pub pod_ip: String,
    pub pod: PodId,
    pub events: Events,
    /// Called when a result changed.
    pub changed: Arc<dyn Fn() + Send + Sync>,
}

fn probes(container: &Container) -> impl Iterator<Item = (Kind, &Probe)> {
    let all = [
        (Kind::Readiness, &container.readiness_probe),
        (Kind::Liveness, &container.liveness_probe),
        (Kind::Startup, &container.startup_probe),
    ];
    all.into_iter().filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
}

impl Probes {
    /// Starts tasks for containers that run now, ends those of containers that do not. A container that was `ready`
    /// or `started` before EdgeCore restarted counts as such until its first result.
    pub fn follow(&mut self, running: &[(&Container, &Instance, bool, bool)], around: &Surroundings) {
        let mut wanted = BTreeSet::new();
        for (container, run, ready, started) in running {
            for (kind, probe) in probes(container) {
                let key = (run.id.clone(), kind);
                wanted.insert(key.clone());
                if self.tasks.contains_key(&key) {
                    continue;
                }
                let before = match kind {
                    Kind::Readiness => *ready,
                    Kind::Startup => *started,
                    Kind::Liveness => false,
                };
                if before {
                    self.lock().insert(key.clone(), true);
                }
                let task = Task::new(key.clone(), probe, container, run, around, self.results.clone());
                let run = steady("probing a container", move || task.clone().run());
                self.tasks.insert(key, daemon::spawn(run).abort_handle());
            }
        }
        self.tasks.retain(|key, task| {
            let keep = wanted.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        self.lock().retain(|key, _| wanted.contains(key));
    }

    /// Ends all probes.
    pub fn stop(&mut self) {
        self.tasks.values().for_each(AbortHandle::abort);
        self.tasks.clear();
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, bool>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> Health {
        let results = self.lock();
        let mut health = Health::default();
        for (id, kind) in self.tasks.keys() {
            let result = results.get(&(id.clone(), *kind)).copied();
            let set = match (kind, result) {
                (Kind::Readiness, None | Some(false)) => &mut health.unready,
                (Kind::Startup, None) => &mut health.starting,
                (Kind::Startup | Kind::Liveness, Some(false)) => &mut health.unhealthy,
                _ => continue,
            };
            set.insert(id.clone());
        }
        health
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone)]
struct Task {
    key: Key,
    target: Target,
    tally: Tally,
    delay: Duration,
    period: Duration,
    waits_for_startup: bool,
    results: Results,
    runtime: cri::Runtime,
    pod: PodId,
    container: String,
    events: Events,
    changed: Arc<dyn Fn() + Send + Sync>,
}

impl Task {
    fn new(
        key: Key,
        probe: &Probe,
        container: &Container,
        run: &Instance,
        around: &Surroundings,
        results: Results,
    ) -> Task {
        let seconds = |value: Option<i32>, default: u64| {
            let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
            Duration::from_secs(value.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let since = around.clock.now().as_nanosecond() - i128::from(run.started);
        let age = Duration::from_nanos(u64::try_from(since).unwrap_or(0));
        let timeout = seconds(probe.timeout_seconds, 1);
        Task {
            target: Target::of_probe(probe, container, &run.id, &around.pod_ip, timeout),
            tally: Tally::new(count(probe.success_threshold, 1), count(probe.failure_threshold, 3)),
            delay: seconds(probe.initial_delay_seconds, 0).saturating_sub(age),
            period: seconds(probe.period_seconds, 10),
            waits_for_startup: key.1 != Kind::Startup && container.startup_probe.is_some(),
            key,
            results,
            runtime: around.runtime.clone(),
            pod: around.pod.clone(),
            container: container.name.clone(),
            events: around.events.clone(),
            changed: around.changed.clone(),
        }
    }

    async fn run(mut self) {
        tokio::time::sleep(self.delay).await;
        loop {
            if !self.waits_for_startup || self.has_started() {
                let answer = self.target.ask(&self.runtime).await;
                match answer.outcome {
                    ProbeOutcome::Unknown => {
                        let error = answer.text.as_str();
                        tracing::debug!(container = %self.container, error, "probe could not be made");
                    }
                    outcome => {
                        if outcome == ProbeOutcome::Bad {
                            let text = format!("{:?} probe failed: {}", self.key.1, answer.text);
                            let named = Some(self.container.as_str());
                            self.events.record(&self.pod, named, Severity::Warning, "Unhealthy", &text);
                        }
                        if let Some(result) = self.tally.count(outcome == ProbeOutcome::Good) {
                            self.publish(result);
                            // Startup is asked until it has an answer; what failed its liveness is about to go.
                            if self.key.1 == Kind::Startup || (self.key.1 == Kind::Liveness && !result) {
                                return;
                            }
                        }
                    }
                }
            }
            tokio::time::sleep(self.period).await;
        }
    }

    fn has_started(&self) -> bool {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.get(&(self.key.0.clone(), Kind::Startup)) == Some(&true)
    }

    fn publish(&self, result: bool) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let before = results.insert(self.key.clone(), result);
        drop(results);
        if before != Some(result) {
            tracing::info!(container = %self.key.0, kind = ?self.key.1, result, "probe result changed");
            (self.changed)();
        }
    }
}
