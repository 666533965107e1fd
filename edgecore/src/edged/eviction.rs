//! Eviction: when the node runs short of memory, disk or processes, it says so, frees what nobody uses, and then ends
//! pods, one at a time, the least deserving first (docs/protocol/edge-runtime.md 5.20).
//!
//! ```text
//! host --readings--> thresholds --pressure--> node conditions, admission
//!                        \--fired--> reclaim (images) --still--> rank --> verdict on one pod
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

use super::context::{Context, chain};
use super::events::Kind;
use super::images::collector::{self, Want};
use super::pods::admission::Pressure;
use super::pods::board::Entry;
use super::pods::verdict::{Sentence, Verdict};
use super::settings::{Eviction, Threshold};
use crate::host::{self, Host};
use crate::metamanager::LinkState;
use rank::{Candidate, Resource};
use readings::Readings;
use thresholds::Thresholds;

/// How often the node is looked at.
const EVERY: Duration = Duration::from_secs(10);
const EVICTED: &str = "Evicted";
/// The grace of a pod evicted at once.
const HARD_GRACE: Duration = Duration::from_secs(1);

pub async fn run(context: Arc<Context>, host: Arc<dyn Host>, stop: CancellationToken) {
    let mut thresholds = Thresholds::new(context.settings.eviction.clone());
    loop {
        look(&context, &host, &mut thresholds).await;
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            _ = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(context: &Context, host: &Arc<dyn Host>, thresholds: &mut Thresholds) {
    for (entry, verdict) in limits::exceeded(context).await {
        entry.verdict.send_replace(Some(verdict));
    }
    let readings = Readings::take(context, host, thresholds.settings()).await;
    let fired = thresholds.judge(&readings, Instant::now());
    let disk = host::disk(host, context.settings.root_dir.clone()).await.unwrap_or_default();
    tell(context, Pressure { read_only: disk.read_only, ..thresholds.pressure() });
    if thresholds.pressure() == Pressure::default() {
        release(context);
    }
    let Some(threshold) = fired else { return };
    tracing::warn!(signal = %threshold.signal, "node is short, looking for what to free");
    if Resource::of(&threshold.signal) == Resource::Disk
        && is_enough_after_reclaim(context, host, &threshold).await
    {
        return;
    }
    evict(context, host, &threshold, &readings).await;
}

/// The node says what it is short of.
fn tell(context: &Context, pressure: Pressure) {
    let changed = context.pressure.send_if_modified(|known| {
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
async fn is_enough_after_reclaim(context: &Context, host: &Arc<dyn Host>, threshold: &Threshold) -> bool {
    let text = format!("Attempting to reclaim {}", Resource::of(&threshold.signal).name());
    context.events.record_node(Kind::Warning, "EvictionThresholdMet", &text);
    if let Err(error) = collector::collect(context, host, Want::All).await {
        tracing::warn!(error = %chain(&error), "unused images not removed");
        return false;
    }
    let only = Eviction { thresholds: vec![threshold.clone()], ..context.settings.eviction.clone() };
    !Readings::take(context, host, &only).await.is_below(threshold)
}

async fn evict(context: &Context, host: &Arc<dyn Host>, threshold: &Threshold, readings: &Readings) {
    let resource = Resource::of(&threshold.signal);
    let entries: Vec<Entry> =
        context.board.entries().into_iter().filter(|entry| entry.is_active() && !entry.is_leaving).collect();
    let candidates = rank::candidates(context, &**host, &entries, resource).await;
    let Some(chosen) = rank::first(&candidates, resource) else {
        tracing::error!(signal = %threshold.signal, "node is short and there is no pod to evict");
        return;
    };
    let Candidate { index, usage, .. } = candidates[chosen];
    let entry = &entries[index];
    let offline = *context.link.borrow() == LinkState::Disconnected;
    let most = Some(context.settings.eviction.max_grace).filter(|grace| !grace.is_zero());
    let verdict = Verdict {
        sentence: if offline && entry.demand.is_controlled { Sentence::Held } else { Sentence::Failed },
        reason: EVICTED.to_owned(),
        message: rank::message(resource, threshold, readings, usage, entry.demand.request(resource.name())),
        grace: if threshold.grace.is_zero() { Some(HARD_GRACE) } else { most },
        disrupted: true,
    };
    entry.verdict.send_replace(Some(verdict));
}

/// Pods that were held may go on.
fn release(context: &Context) {
    for entry in context.board.entries() {
        entry.verdict.send_if_modified(|verdict| {
            let held = verdict
                .as_ref()
                .is_some_and(|verdict| verdict.sentence == Sentence::Held && verdict.reason == EVICTED);
            if held {
                *verdict = None;
            }
            held
        });
    }
}
