//! Events about objects, as `kubectl describe` shows them. The same event again is counted on the first, not written anew
//! (`client-go/tools/record/events_cache.go`).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use apimachinery::kinds::lines;
use apimachinery::object;
use daemon::clock;
use daemon::rate::{Debt, Rate};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::{Api, Key, Kind};

/// Events that are remembered, so that the next of their like counts on them.
const REMEMBERED: usize = 256;
/// Beyond it events are dropped: a controller that fails in a loop must not fill the database.
const RATE: Rate = Rate::per_second(10, 200);

/// An event: `Normal` or `Warning`, its reason, its message.
pub type Said<'a> = (&'a str, &'a str, &'a str);

struct Told {
    /// uid, reason and message.
    what: (String, String, String),
    key: Key,
    count: u64,
}

pub(crate) struct Recorder {
    component: &'static str,
    told: Mutex<(VecDeque<Told>, Debt)>,
}

enum Write {
    Dropped,
    Count(Key, u64),
    New,
}

impl Recorder {
    pub(crate) fn new(component: &'static str) -> Recorder {
        Recorder { component, told: Mutex::default() }
    }

    fn next(&self, what: &(String, String, String)) -> Write {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.1.take(&RATE, 1, Instant::now()).is_err() {
            return Write::Dropped;
        }
        match told.0.iter_mut().find(|told| told.what == *what) {
            None => Write::New,
            Some(told) => {
                told.count += 1;
                Write::Count(told.key.clone(), told.count)
            }
        }
    }

    fn remember(&self, what: (String, String, String), key: Key) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.0.retain(|told| told.what != what);
        if told.0.len() == REMEMBERED {
            told.0.pop_front();
        }
        told.0.push_back(Told { what, key, count: 1 });
    }

    pub(crate) async fn record(
        &self,
        api: &dyn Api,
        kind: Kind,
        object: &Value,
        (severity, reason, message): Said<'_>,
    ) {
        let what = (object::uid(object).to_owned(), reason.to_owned(), message.to_owned());
        let now = clock::rfc3339(clock::now());
        match self.next(&what) {
            Write::Dropped => return,
            Write::New => {}
            Write::Count(key, count) => {
                let patch = json!({"count": count, "lastTimestamp": now});
                if api.patch(&lines::Event, &key, "", &patch).await.is_ok() {
                    return;
                }
            }
        }
        let namespace = match object::namespace(object) {
            "" => "default",
            namespace => namespace,
        };
        let name = format!("{}.{:016x}", object::name(object), rand::random::<u64>());
        let event = json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {"kind": kind.kind, "apiVersion": kind.api_version(), "namespace": object::namespace(object),
                "name": object::name(object), "uid": object::uid(object), "resourceVersion": object::resource_version(object)},
            "type": severity, "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": self.component}, "reportingComponent": self.component, "reportingInstance": "",
        });
        match api.create(&lines::Event, &event).await {
            Ok(_) => self.remember(what, Key::new(namespace, &name)),
            Err(status) => tracing::debug!(error = %status, reason, "an event was not written"),
        }
    }
}
