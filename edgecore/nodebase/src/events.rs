//! Kubernetes events about pods and the node: bounded, aggregated, rate limited, sent through the outbox.
//!
//! Recording costs its caller nothing: what is worth telling waits in a short queue for the outbox.

use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::rate::{Debt, Rate};
use jiff::Timestamp;
use message::{Json, Upstream, Verb};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use metamanager::Outbox;
use podmodel::spec::PodId;

/// Events remembered for aggregation; older ones start a new event.
const REMEMBERED: usize = 256;
/// The least time between two reports of the same event; what happens again meanwhile is told at the end of it.
const REPEAT: Duration = Duration::from_secs(30);
/// Different events about one object (the kubelet's spam filter).
const EACH: Rate = Rate::new(1, Duration::from_secs(300), 25);
/// How long the first event waits so that others share its write.
const GATHER: Duration = Duration::from_secs(1);
/// Events that may wait for the outbox: those of a node full of pods that start at once.
const QUEUE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Warning,
}

/// Handle for events.
#[derive(Clone)]
pub struct Events {
    queue: Option<mpsc::Sender<Upstream>>,
    node: String,
    told: Arc<Mutex<Recorded>>,
    /// An event was held back.
    held_back: Arc<Notify>,
}

/// Writes what was recorded.
pub struct Delivery {
    queue: mpsc::Receiver<Upstream>,
    outbox: Option<Outbox>,
    told: Arc<Mutex<Recorded>>,
    held_back: Arc<Notify>,
}

/// What an event is about.
struct Subject<'a> {
    pod: &'a PodId,
    container: Option<&'a str>,
}

#[derive(Default)]
struct Recorded {
    seen: HashMap<String, RecordedEvent>,
    /// What was told of an object, and when last; by its uid.
    budgets: HashMap<String, (Debt, Instant)>,
}

struct RecordedEvent {
    name: String,
    first: Timestamp,
    sent: Timestamp,
    count: u32,
    /// How it stands since it was sent, with its namespace.
    held_back: Option<(String, serde_json::Value)>,
}

impl Events {
    /// With no outbox, events are dropped.
    pub fn new(outbox: Option<Outbox>, node: &str) -> (Events, Delivery) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let sender = outbox.is_some().then_some(sender);
        let (told, held_back): (Arc<Mutex<Recorded>>, Arc<Notify>) = Default::default();
        let events =
            Events { queue: sender, node: node.to_owned(), told: told.clone(), held_back: held_back.clone() };
        (events, Delivery { queue, outbox, told, held_back })
    }

    /// Records that something happened to a pod, or to one of its containers.
    pub fn record(&self, pod: &PodId, container: Option<&str>, kind: Kind, reason: &str, text: &str) {
        let Some(queue) = &self.queue else { return };
        let now = daemon::clock::now();
        let subject = Subject { pod, container };
        let Some((name, verb, body)) = self.next(subject, kind, reason, text, (now, Instant::now())) else {
            return;
        };
        let Ok(object) = Json::encode(&body) else { return };
        let namespace = namespace_of(pod).to_owned();
        let event = Upstream::Event { namespace, name, verb, object };
        if queue.try_send(event).is_err() {
            tracing::warn!(reason, "too many events at once, one is not told");
        }
    }

    /// Records that something happened to the node.
    pub fn record_node(&self, kind: Kind, reason: &str, text: &str) {
        let node = PodId { namespace: String::new(), name: self.node.clone(), uid: self.node.clone() };
        self.record(&node, None, kind, reason, text);
    }

    fn next(
        &self,
        Subject { pod, container }: Subject<'_>,
        kind: Kind,
        reason: &str,
        text: &str,
        (now, at): (Timestamp, Instant),
    ) -> Option<(String, Verb, serde_json::Value)> {
        let key = format!("{}/{}/{reason}/{text}", pod.uid, container.unwrap_or_default());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Recorded { seen, budgets } = &mut *told;
        if seen.len() >= REMEMBERED && !seen.contains_key(&key) {
            let oldest = seen.iter().min_by_key(|(_, seen)| seen.sent).map(|(key, _)| key.clone());
            oldest.and_then(|key| seen.remove(&key));
        }
        let fresh =
            || RecordedEvent { name: event_name(pod, now), first: now, sent: now, count: 0, held_back: None };
        let entry = seen.entry(key).or_insert_with(fresh);
        entry.count += 1;
        let repeated = entry.count > 1;
        if !repeated && !may_tell(budgets, &pod.uid, at) {
            return None;
        }
        let subject = if pod.namespace.is_empty() { "Node" } else { "Pod" };
        let field = container.map(|name| format!("spec.containers{{{name}}}"));
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": entry.name, "namespace": namespace_of(pod)},
            "involvedObject": {"apiVersion": "v1", "kind": subject, "namespace": pod.namespace, "name": pod.name,
                "uid": pod.uid, "fieldPath": field},
            "type": match kind { Kind::Normal => "Normal", Kind::Warning => "Warning" },
            "reason": reason, "message": text.chars().take(1024).collect::<String>(), "count": entry.count,
            "source": {"component": "kubelet", "host": self.node},
            "reportingComponent": "kubelet", "reportingInstance": self.node,
            "firstTimestamp": daemon::clock::rfc3339(entry.first), "lastTimestamp": daemon::clock::rfc3339(now),
        });
        let since = Duration::try_from(now.duration_since(entry.sent)).unwrap_or_default();
        if repeated && since < REPEAT {
            entry.held_back = Some((namespace_of(pod).to_owned(), body));
            self.held_back.notify_one();
            return None;
        }
        (entry.sent, entry.held_back) = (now, None);
        let verb = if repeated { Verb::Update } else { Verb::Create };
        Some((entry.name.clone(), verb, body))
    }
}

/// Events about the node, which has no namespace, are in this one.
fn namespace_of(subject: &PodId) -> &str {
    if subject.namespace.is_empty() { "default" } else { &subject.namespace }
}

/// Takes one from the object's budget.
fn may_tell(budgets: &mut HashMap<String, (Debt, Instant)>, uid: &str, now: Instant) -> bool {
    if budgets.len() >= REMEMBERED && !budgets.contains_key(uid) {
        let oldest = budgets.iter().min_by_key(|(_, (_, at))| *at).map(|(uid, _)| uid.clone());
        oldest.and_then(|uid| budgets.remove(&uid));
    }
    let (told, at) = budgets.entry(uid.to_owned()).or_insert((Debt::default(), now));
    *at = now;
    told.take(&EACH, 1, now).is_ok()
}

impl Delivery {
    /// Writes events until `end`, and then those that still wait.
    pub fn run(mut self, end: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Some(outbox) = self.outbox.take() else { return end.cancelled().await };
            let mut batch = Vec::new();
            let mut due: Option<Instant> = None;
            loop {
                let repeats = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                let count = tokio::select! {
                    biased;
                    count = self.queue.recv_many(&mut batch, QUEUE) => count,
                    _ = end.cancelled() => 0,
                    _ = repeats => {
                        due = None;
                        store(&outbox, self.repeated()).await;
                        continue;
                    }
                    _ = self.held_back.notified() => {
                        due = due.or_else(|| Some(Instant::now() + REPEAT));
                        continue;
                    }
                };
                if count == 0 {
                    return store(&outbox, self.repeated()).await;
                }
                self.gather(&mut batch, &end).await;
                store(&outbox, std::mem::take(&mut batch)).await;
            }
        })
    }

    /// What happened again since it was told.
    fn repeated(&self) -> Vec<Upstream> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = daemon::clock::now();
        let again = told.seen.values_mut().filter_map(|seen| {
            let (namespace, body) = seen.held_back.take()?;
            seen.sent = now;
            let object = Json::encode(&body).ok()?;
            Some(Upstream::Event { namespace, name: seen.name.clone(), verb: Verb::Update, object })
        });
        again.collect()
    }

    /// What a pod does at its start is told when it is done: the machine has better things to do meanwhile.
    async fn gather(&mut self, batch: &mut Vec<Upstream>, end: &CancellationToken) {
        let rest = tokio::time::sleep(GATHER);
        tokio::pin!(rest);
        while batch.len() < QUEUE {
            tokio::select! {
                biased;
                _ = end.cancelled() => return,
                _ = &mut rest => return,
                count = self.queue.recv_many(batch, QUEUE) => if count == 0 { return },
            }
        }
    }
}

async fn store(outbox: &Outbox, events: Vec<Upstream>) {
    for event in events {
        if let Err(error) = outbox.submit(event).await {
            tracing::warn!(error = %podmodel::errors::chain(&error), "event not stored");
        }
    }
}

fn event_name(pod: &PodId, now: Timestamp) -> String {
    format!("{}.{:x}", pod.name, now.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_event_is_counted_and_told_again_only_after_a_while() {
        let (events, _) = Events::new(None, "e");
        let pod = PodId { namespace: "d".into(), name: "p".into(), uid: "u".into() };
        let at = |second| {
            let now = (Timestamp::from_second(second).unwrap(), Instant::now());
            events.next(Subject { pod: &pod, container: Some("c") }, Kind::Warning, "BackOff", "text", now)
        };
        let (name, verb, _) = at(100).unwrap();
        assert_eq!(verb, Verb::Create);
        assert!(at(101).is_none());
        let (again, verb, body) = at(140).unwrap();
        assert_eq!((again, verb, body["count"].as_u64()), (name, Verb::Update, Some(3)));
    }

    #[test]
    fn an_object_with_ever_new_events_is_told_of_within_its_budget() {
        let (events, _) = Events::new(None, "e");
        let pod = |uid: &str| PodId { namespace: "d".into(), name: "p".into(), uid: uid.into() };
        let start = Instant::now();
        let told = |uid: &str, number: u32, second: u64| {
            let now = (Timestamp::UNIX_EPOCH, start + Duration::from_secs(second));
            let (text, pod) = (format!("probe failed: {number}"), pod(uid));
            events
                .next(Subject { pod: &pod, container: None }, Kind::Warning, "Unhealthy", &text, now)
                .is_some()
        };
        assert_eq!((0..100).filter(|number| told("u", *number, 0)).count(), 25);
        assert!(told("other", 0, 0));
        assert!(!told("u", 200, 299));
        assert!(told("u", 201, 600));
    }
}
