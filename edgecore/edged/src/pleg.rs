//! PLEG: notices what changed in the runtime, and tells which pods it changed for (docs/protocol/edge-runtime.md 5.17).
//!
//! The runtime's event stream wakes it where there is one, with a slow relist as a safety net; else it relists each
//! second while there are containers. A relist is two calls, and compares one number per pod.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use cri::{CallError, Runtime, labels};
use daemon::health::Beat;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use nodebase::owner::{self, Owner};
use nodebase::steady::steady;
use podmodel::spec::PodId;

/// Pods whose sandboxes or containers changed state.
#[derive(Debug)]
pub struct Relisted {
    pub changed: Vec<RuntimePod>,
}

/// A pod in the runtime that another node agent did not make.
#[derive(Clone, Debug)]
pub struct RuntimePod {
    pub id: PodId,
    /// We made it: it carries our mark.
    pub is_ours: bool,
}

/// Right after something was made or ended, more is likely to happen: the pause grows from this to the usual one.
const SOON: Duration = Duration::from_millis(100);
const ACTIVE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(10);
const WITH_EVENTS: Duration = Duration::from_secs(60);
/// Relists waiting to be looked at; the next one says the same again, so few are enough.
pub const RELIST_QUEUE: usize = 4;

type Snapshot = BTreeMap<String, (RuntimePod, u64)>;

pub struct Pleg {
    pub runtime: Runtime,
    /// What this installation marks its pods with.
    pub mark: String,
    pub relisted: mpsc::Sender<Relisted>,
    /// Told by workers that made something, and by the event stream.
    pub poke: Arc<Notify>,
    /// When the last relist succeeded; for the node's Ready condition.
    pub healthy: watch::Sender<Option<tokio::time::Instant>>,
    /// Shows that relists end.
    pub beat: Beat,
}

impl Pleg {
    pub async fn run(self, stop: CancellationToken) {
        let (streaming, has_events) = watch::channel(false);
        let (runtime, poke) = (self.runtime.clone(), self.poke.clone());
        let events = daemon::spawn(steady("following the runtime's events", move || {
            follow_events(runtime.clone(), poke.clone(), streaming.clone())
        }));
        let mut known = Snapshot::new();
        let (mut pause, mut failing) = (SOON, false);
        loop {
            let busy = self.beat.begin();
            let found = snapshot(&self.runtime, &self.mark).await;
            drop(busy);
            match found {
                Ok(now) => {
                    self.healthy.send_replace(Some(tokio::time::Instant::now()));
                    if std::mem::take(&mut failing) {
                        tracing::info!("the runtime lists its pods again");
                    }
                    let changed = difference(&known, &now);
                    known = now;
                    pause = if changed.is_empty() { (pause * 2).min(ACTIVE) } else { SOON };
                    if !changed.is_empty() && self.relisted.send(Relisted { changed }).await.is_err() {
                        break;
                    }
                }
                // The first failure is news; the rest would fill a disk.
                Err(error) if failing => {
                    tracing::debug!(error = %podmodel::errors::chain(&error), "the runtime does not list its pods");
                }
                Err(error) => {
                    failing = true;
                    tracing::warn!(error = %podmodel::errors::chain(&error), "the runtime does not list its pods");
                }
            }
            let rest = match (*has_events.borrow(), known.is_empty()) {
                (true, _) => WITH_EVENTS,
                (false, false) => pause,
                (false, true) => IDLE,
            };
            tokio::select! {
                biased;
                _ = stop.cancelled() => break,
                _ = self.poke.notified() => pause = SOON,
                _ = tokio::time::sleep(rest) => {}
            }
        }
        events.abort();
    }
}

async fn snapshot(runtime: &Runtime, mark: &str) -> Result<Snapshot, CallError> {
    let mut pods: BTreeMap<String, (RuntimePod, Vec<(String, i32)>)> = BTreeMap::new();
    let sandboxes = runtime.list_pod_sandboxes(None).await?;
    let containers = runtime.list_containers(None).await?;
    let sandboxes = sandboxes.into_iter().map(|item| (item.labels, item.id, item.state));
    let containers = containers.into_iter().map(|item| (item.labels, item.id, item.state));
    for (labels, id, state) in sandboxes.chain(containers) {
        let Some(uid) = labels.get(labels::POD_UID) else { continue };
        let owner = owner::of(&labels, mark);
        if owner == Owner::Another {
            continue;
        }
        let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let pod = || PodId {
            namespace: text(labels::POD_NAMESPACE),
            name: text(labels::POD_NAME),
            uid: uid.clone(),
        };
        let found = || RuntimePod { id: pod(), is_ours: false };
        let (found, states) = pods.entry(uid.clone()).or_insert_with(|| (found(), Vec::new()));
        found.is_ours |= owner == Owner::Us;
        states.push((id, state));
    }
    let digest = |mut states: Vec<(String, i32)>| {
        states.sort();
        let mut hasher = DefaultHasher::new();
        states.hash(&mut hasher);
        hasher.finish()
    };
    Ok(pods.into_iter().map(|(uid, (pod, states))| (uid, (pod, digest(states)))).collect())
}

/// Pods that are new, gone or different.
fn difference(before: &Snapshot, now: &Snapshot) -> Vec<RuntimePod> {
    let changed =
        now.iter().filter(|(uid, (_, digest))| before.get(*uid).is_none_or(|(_, old)| old != digest));
    let gone = before.iter().filter(|(uid, _)| !now.contains_key(*uid));
    changed.chain(gone).map(|(_, (pod, _))| pod.clone()).collect()
}

/// Turns the runtime's events into pokes. Ends when the runtime has no events; comes back when the stream breaks.
async fn follow_events(runtime: Runtime, poke: Arc<Notify>, streaming: watch::Sender<bool>) {
    streaming.send_replace(false);
    loop {
        match runtime.container_events().await {
            Ok(mut stream) => {
                streaming.send_replace(true);
                poke.notify_one();
                while let Ok(Some(_)) = stream.message().await {
                    poke.notify_one();
                }
                streaming.send_replace(false);
                poke.notify_one();
            }
            Err(error) if error.is_unimplemented() => return,
            Err(_) => {}
        }
        tokio::time::sleep(IDLE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_gone_and_different_pods_are_named_and_the_rest_is_not() {
        let id = |uid: &str| PodId { namespace: "d".into(), name: "p".into(), uid: uid.into() };
        let pod = |uid: &str| RuntimePod { id: id(uid), is_ours: true };
        let snapshot = |list: &[(&str, u64)]| -> Snapshot {
            list.iter().map(|(uid, digest)| ((*uid).to_owned(), (pod(uid), *digest))).collect()
        };
        let before = snapshot(&[("same", 1), ("gone", 1), ("other", 1)]);
        let now = snapshot(&[("same", 1), ("new", 1), ("other", 2)]);
        let mut uids: Vec<String> = difference(&before, &now).into_iter().map(|pod| pod.id.uid).collect();
        uids.sort();
        assert_eq!(uids, ["gone", "new", "other"]);
    }
}
