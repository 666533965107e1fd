//! Kubernetes events about pods: bounded, aggregated, rate limited, sent through the outbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use message::{Json, Upstream, Verb};
use serde_json::json;

use super::pods::spec::PodId;
use crate::metamanager::Outbox;

/// Events remembered for aggregation; older ones start a new event.
const REMEMBERED: usize = 256;
/// The least time between two reports of the same event.
const REPEAT_SECONDS: i64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Warning,
}

/// Handle for events.
#[derive(Clone)]
pub struct Events {
    outbox: Option<Outbox>,
    node: String,
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

struct Seen {
    name: String,
    first: Timestamp,
    sent: Timestamp,
    count: u32,
}

impl Events {
    /// With no outbox, events are dropped.
    pub fn new(outbox: Option<Outbox>, node: &str) -> Events {
        Events { outbox, node: node.to_owned(), seen: Arc::default() }
    }

    /// Records that something happened to a pod, or to one of its containers.
    pub async fn record(&self, pod: &PodId, container: Option<&str>, kind: Kind, reason: &str, text: &str) {
        let Some(outbox) = &self.outbox else { return };
        let now = daemon::clock::now();
        let Some(object) = self.next(pod, container, kind, reason, text, now) else { return };
        let (name, verb, body) = object;
        let Ok(object) = Json::encode(&body) else { return };
        let event = Upstream::Event { namespace: pod.namespace.clone(), name, verb, object };
        if let Err(error) = outbox.submit(event).await {
            tracing::warn!(error = %error, reason, "event not stored");
        }
    }

    fn next(
        &self,
        pod: &PodId,
        container: Option<&str>,
        kind: Kind,
        reason: &str,
        text: &str,
        now: Timestamp,
    ) -> Option<(String, Verb, serde_json::Value)> {
        let key = format!("{}/{}/{reason}/{text}", pod.uid, container.unwrap_or_default());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED && !seen.contains_key(&key) {
            let oldest = seen.iter().min_by_key(|(_, seen)| seen.sent).map(|(key, _)| key.clone());
            oldest.and_then(|key| seen.remove(&key));
        }
        let fresh = || Seen { name: event_name(pod, now), first: now, sent: now, count: 0 };
        let entry = seen.entry(key).or_insert_with(fresh);
        entry.count += 1;
        let repeated = entry.count > 1;
        if repeated && now.as_second() - entry.sent.as_second() < REPEAT_SECONDS {
            return None;
        }
        entry.sent = now;
        let field = container.map(|name| format!("spec.containers{{{name}}}"));
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": entry.name, "namespace": pod.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name,
                "uid": pod.uid, "fieldPath": field},
            "type": match kind { Kind::Normal => "Normal", Kind::Warning => "Warning" },
            "reason": reason, "message": text.chars().take(1024).collect::<String>(), "count": entry.count,
            "source": {"component": "kubelet", "host": self.node},
            "reportingComponent": "kubelet", "reportingInstance": self.node,
            "firstTimestamp": daemon::clock::rfc3339(entry.first), "lastTimestamp": daemon::clock::rfc3339(now),
        });
        let verb = if repeated { Verb::Update } else { Verb::Create };
        Some((entry.name.clone(), verb, body))
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
        let events = Events::new(None, "e");
        let pod = PodId { namespace: "d".into(), name: "p".into(), uid: "u".into() };
        let at = |second| {
            let time = Timestamp::from_second(second).unwrap();
            events.next(&pod, Some("c"), Kind::Warning, "BackOff", "text", time)
        };
        let (name, verb, _) = at(100).unwrap();
        assert_eq!(verb, Verb::Create);
        assert!(at(101).is_none());
        let (again, verb, body) = at(140).unwrap();
        assert_eq!((again, verb, body["count"].as_u64()), (name, Verb::Update, Some(3)));
    }
}
