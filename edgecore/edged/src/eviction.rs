//! Eviction: when the node runs short of memory, disk or processes, it says so, frees what nobody uses, and then ends
//! pods, one at a time, the least deserving first (docs/protocol/edge-runtime.md 5.20).
//!
//! ```text
//! host --readings--> thresholds --pressure--> node conditions, admission
//!                        \--fired--> reclaim (images) --still--> rank --> decision on one pod
//! ```
//!
//! Better than the kubelet on a node without a link: a pod that has failed there has nobody to replace it, so a pod of
//! a controller is held instead, and goes on when the pressure is over.

mod limits;
mod rank;
mod readings;
mod thresholds;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use images::Images;
use images::collector::{self, Want};
use metamanager::LinkState;
use nodebase::base::Base;
use nodebase::events::Kind;
use nodebase::host::{self, Host};
use nodebase::settings::{Eviction, Threshold};
use podmodel::admission::Pressure;
use podmodel::board::PodEntry;
use podmodel::errors::chain;
use podmodel::stop_decision::{Disposition, StopDecision};
use rank::{Candidate, Resource};
use readings::Readings;
use thresholds::Thresholds;

/// How often the node is looked at.
const EVERY: Duration = Duration::from_secs(10);
const EVICTED: &str = "Evicted";
/// The grace of a pod evicted at once.
const HARD_GRACE: Duration = Duration::from_secs(1);

/// What is looked at, and what can be given back.
struct Sources {
    base: Arc<Base>,
    images: Arc<Images>,
    /// Where the runtime keeps images, once it was asked.
    image_place: tokio::sync::Mutex<Option<String>>,
}

pub(crate) async fn run(base: Arc<Base>, images: Arc<Images>, host: Arc<dyn Host>, stop: CancellationToken) {
    let sources = Sources { base, images, image_place: tokio::sync::Mutex::new(None) };
    let mut thresholds = Thresholds::new(sources.base.settings.eviction.clone());
    loop {
        look(&sources, &host, &mut thresholds).await;
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            _ = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(sources: &Sources, host: &Arc<dyn Host>, thresholds: &mut Thresholds) {
    for (entry, decision) in limits::exceeded(sources).await {
        entry.decision.send_replace(Some(decision));
    }
    let readings = Readings::take(sources, host, thresholds.settings()).await;
    let fired = thresholds.judge(&readings, Instant::now());
    let disk = host::disk(host, sources.base.settings.root_dir.clone()).await.unwrap_or_default();
    tell(sources, Pressure { read_only: disk.read_only, ..thresholds.pressure() });
    if thresholds.pressure() == Pressure::default() {
        release(sources);
    }
    let Some(threshold) = fired else { return };
    tracing::warn!(signal = %threshold.signal, "node is short, looking for what to free");
    if Resource::of(&threshold.signal) == Resource::Disk
        && is_enough_after_reclaim(sources, host, &threshold).await
    {
        return;
    }
    evict(sources, host, &threshold, &readings).await;
}

/// The node says what it is short of.
fn tell(sources: &Sources, pressure: Pressure) {
    let changed = sources.base.pressure.send_if_modified(|known| {
        let changed = *known != pressure;
        *known = pressure;
        changed
    });
    if changed {
        let Pressure { memory, disk, pids, read_only } = pressure;
        tracing::warn!(memory, disk, pids, read_only, "pressure on the node changed");
    }
}

/// Images go before pods do.
async fn is_enough_after_reclaim(sources: &Sources, host: &Arc<dyn Host>, threshold: &Threshold) -> bool {
    let text = format!("Attempting to reclaim {}", Resource::of(&threshold.signal).name());
    sources.base.events.record_node(Kind::Warning, "EvictionThresholdMet", &text);
    if let Err(error) = collector::collect(&sources.images, host, Want::All).await {
        tracing::warn!(error = %chain(&error), "unused images not removed");
        return false;
    }
    let only = Eviction { thresholds: vec![threshold.clone()], ..sources.base.settings.eviction.clone() };
    !Readings::take(sources, host, &only).await.is_below(threshold)
}

async fn evict(sources: &Sources, host: &Arc<dyn Host>, threshold: &Threshold, readings: &Readings) {
    let resource = Resource::of(&threshold.signal);
    let entries: Vec<PodEntry> = sources
        .base
        .board
        .entries()
        .into_iter()
        .filter(|entry| entry.is_active() && !entry.is_leaving)
        .collect();
    let candidates = rank::candidates(sources, &**host, &entries, resource).await;
    let Some(chosen) = rank::first(&candidates, resource) else {
        tracing::error!(signal = %threshold.signal, "node is short and there is no pod to evict");
        return;
    };
    let Candidate { index, usage, .. } = candidates[chosen];
    let entry = &entries[index];
    let offline = *sources.base.link.borrow() == LinkState::Disconnected;
    let most = Some(sources.base.settings.eviction.max_grace).filter(|grace| !grace.is_zero());
    let decision = StopDecision {
        disposition: if offline && entry.demand.is_controlled {
            Disposition::Hold
        } else {
            Disposition::Fail
        },
        reason: EVICTED.to_owned(),
        message: rank::message(resource, threshold, readings, usage, entry.demand.request(resource.name())),
        grace: if threshold.grace.is_zero() { Some(HARD_GRACE) } else { most },
        disrupted: true,
    };
    entry.decision.send_replace(Some(decision));
}

/// Pods that were held may go on.
fn release(sources: &Sources) {
    for entry in sources.base.board.entries() {
        entry.decision.send_if_modified(|decision| {
            let held = decision.as_ref().is_some_and(|decision| {
                decision.disposition == Disposition::Hold && decision.reason == EVICTED
            });
            if held {
                *decision = None;
            }
            held
        });
    }
}
