//! One watch: tells a room what is there, what changed, what went, across reconnects and relists.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::errors::describe;
use futures_util::StreamExt;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::{Api, runtime};
use message::Json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::raw::{Meta, RawObject};
use super::recovery::Recovery;
use super::resource::stub;
use super::{Cluster, Resource};

/// What a watch saw.
#[derive(Clone, Debug)]
pub struct FromWatch {
    pub resource: Resource,
    pub event: WatchEvent,
}

#[derive(Clone, Debug)]
pub enum WatchEvent {
    Put {
        meta: Meta,
        object: Json,
    },
    Gone {
        meta: Meta,
        object: Json,
        /// The server told of its deletion. Otherwise it is only missing in a list: the server may have been given an older
        /// state of its own.
        told: bool,
    },
    /// Everything that existed at the start has been told. Comes once.
    Synced,
}

/// Objects asked for at once when listing.
pub(super) const PAGE: u32 = 500;

/// A watch is asked to end after this many seconds, with a bookmark before, and goes on from there. The library takes one
/// that stays silent for five seconds longer as dead: a connection that was swallowed is noticed within 15 s.
const WATCH_SECONDS: u32 = 10;

/// First and longest wait before a watch that broke is begun again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Where others get through again, watches begin at a random moment within this time.
const RECOVERY_SPREAD: Duration = Duration::from_millis(100);

/// When to begin again after a failure.
struct Retry {
    backoff: Backoff,
    expired: bool,
    /// The wait before was cut short because others got through.
    hurried: bool,
    /// Nothing was heard since a failure.
    failing: bool,
}

impl Retry {
    fn new() -> Retry {
        Retry { backoff: Backoff::new(RETRY.0, RETRY.1), expired: false, hurried: false, failing: false }
    }

    /// A server that has forgotten the version is asked for everything at once: nothing is wrong with it. It follows each
    /// restart of an API server.
    fn after(&mut self, error: &watcher::Error) -> Duration {
        let expired = is_expired(error) && !self.expired;
        self.expired = is_expired(error);
        if expired { Duration::ZERO } else { self.backoff.next() }
    }

    /// The first failure of an outage is news; the rest would fill a disk.
    fn tell(&mut self, kind: &str, error: &watcher::Error, wait: Duration) {
        let (error, wait_ms) = (describe(error), wait.as_millis() as u64);
        match std::mem::replace(&mut self.failing, true) {
            false => tracing::warn!(kind, error, wait_ms, "watch interrupted, trying until it works again"),
            true => tracing::debug!(kind, error, wait_ms, "watch interrupted again"),
        }
    }

    /// Waits for `wait`, less if `recovery` comes before. Every second wait is kept to its end: what fails where all else
    /// gets through is asked for at most twice in a step of the back-off.
    async fn pause(&mut self, wait: Duration, recovery: Recovery) {
        let may_hurry = !self.hurried;
        self.hurried = tokio::select! {
            biased;
            _ = recovery.after(RECOVERY_SPREAD), if may_hurry => true,
            _ = tokio::time::sleep(wait) => false,
        };
    }

    /// The server told something.
    fn told(&mut self) {
        *self = Retry::new();
    }
}

/// The server did not answer, or with an error of its own.
fn is_away(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => message::is_retryable(status.code),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => message::is_retryable(status.code),
        watcher::Error::NoResourceVersion => false,
        _ => true,
    }
}

fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// Watches `resource` for ever and tells `room`. Returns when stopped or when the room is gone.
pub async fn feed(
    cluster: Cluster,
    resource: Resource,
    room: mpsc::Sender<FromWatch>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let api_resource = resource.api();
    let api: Api<RawObject> = Api::all_with(cluster.watching.clone(), &api_resource);
    let mut config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    config.field_selector = resource.fields();
    let mut events = std::pin::pin!(runtime::watcher(api, config));
    let (mut known, mut retry) = (Tracker::default(), Retry::new());
    loop {
        let event = tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            event = events.next() => event,
        };
        let events = match event {
            None => return Ok(()),
            Some(Err(error)) => {
                let wait = retry.after(&error);
                retry.tell(&api_resource.kind, &error, wait);
                cluster.metrics().interrupted(resource.plural());
                let recovery = cluster.reach.next();
                match is_away(&error) {
                    true => cluster.reach.failed(),
                    false if is_expired(&error) => cluster.reach.answered(),
                    false => {}
                }
                tokio::select! {
                    biased;
                    _ = stop.cancelled() => return Ok(()),
                    _ = retry.pause(wait, recovery) => continue,
                }
            }
            Some(Ok(event)) => {
                // The beginning of a list is told before the server was asked.
                if !matches!(event, Event::Init) {
                    retry.told();
                    cluster.reach.answered();
                }
                known.on_event(event, &api_resource)
            }
        };
        for event in events {
            if room.send(FromWatch { resource, event }).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Which objects were told, so that a relist can tell which are gone. There is one entry per object of the cluster.
#[derive(Default)]
pub(super) struct Tracker {
    told: HashMap<Key, TrackedObject>,
    /// Objects of the running relist; `None` outside one.
    listed: Option<HashSet<Key>>,
    synced: bool,
}

/// `namespace/name`; the namespace is empty where there is none.
type Key = Box<str>;

#[derive(Debug, PartialEq, Eq)]
struct TrackedObject {
    uid: Box<str>,
    version: Box<str>,
}

fn key(meta: &Meta) -> Key {
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name).into()
}

impl Tracker {
    pub(super) fn on_event(&mut self, event: Event<RawObject>, resource: &ApiResource) -> Vec<WatchEvent> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let (meta, object) = object.typed(resource);
                if let Some(listed) = &mut self.listed {
                    listed.insert(key(&meta));
                }
                self.put(resource, meta, object)
            }
            Event::Apply(object) => {
                let (meta, object) = object.typed(resource);
                self.put(resource, meta, object)
            }
            Event::Delete(object) => {
                let (meta, object) = object.typed(resource);
                self.told.remove(&key(&meta));
                vec![WatchEvent::Gone { meta, object, told: true }]
            }
            Event::InitDone => self.end_of_list(resource),
        }
    }

    fn put(&mut self, resource: &ApiResource, meta: Meta, object: Json) -> Vec<WatchEvent> {
        let told =
            TrackedObject { uid: meta.uid.as_str().into(), version: meta.resource_version.as_str().into() };
        match self.told.entry(key(&meta)) {
            Entry::Vacant(entry) => {
                entry.insert(told);
                vec![WatchEvent::Put { meta, object }]
            }
            Entry::Occupied(entry) if *entry.get() == told => Vec::new(),
            Entry::Occupied(mut entry) => {
                let old = entry.insert(told);
                // Deleted and created again between two events.
                let replaced = (*old.uid != meta.uid).then(|| gone(resource, entry.key(), old));
                replaced.into_iter().chain([WatchEvent::Put { meta, object }]).collect()
            }
        }
    }

    fn end_of_list(&mut self, resource: &ApiResource) -> Vec<WatchEvent> {
        let listed = self.listed.take().unwrap_or_default();
        let missing = self.told.extract_if(|key, _| !listed.contains(key));
        let mut events: Vec<WatchEvent> = missing.map(|(key, told)| gone(resource, &key, told)).collect();
        if !self.synced {
            self.synced = true;
            events.push(WatchEvent::Synced);
        }
        events
    }
}

/// An object whose end was not seen: only its identity is left.
fn gone(resource: &ApiResource, key: &str, told: TrackedObject) -> WatchEvent {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let meta = Meta {
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
        uid: told.uid.into(),
        resource_version: told.version.into(),
        deletion_timestamp: None,
    };
    let object = stub(resource, meta.namespace.as_deref(), &meta.name, &meta.uid);
    WatchEvent::Gone { meta, object, told: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use futures_util::stream;
    use http::Response;
    use http_body_util::combinators::BoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::Frame;
    use kube::client::Body;
    use tokio::time::Instant;

    const EXPIRED: &str =
        r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}"#;

    /// An API server that is away for a minute and has forgotten all versions when it is back, as after a restart.
    struct Restarting {
        back_at: Instant,
        lists: Mutex<Vec<Instant>>,
        watches: AtomicUsize,
    }

    impl Restarting {
        fn answer(&self, uri: &http::Uri) -> Result<Response<BoxBody<Bytes, Infallible>>, std::io::Error> {
            let now = Instant::now();
            let query = uri.query().unwrap_or_default();
            if query.contains("watch=true") {
                return match self.watches.fetch_add(1, Ordering::Relaxed) {
                    // The first watch breaks off at once, and the server is away.
                    0 => Ok(Response::new(Full::default().boxed())),
                    _ if now < self.back_at => Err(std::io::ErrorKind::ConnectionRefused.into()),
                    _ if self.lists.lock().unwrap().len() > 1 => {
                        let open = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                        Ok(Response::new(BodyExt::boxed(StreamBody::new(open))))
                    }
                    _ => Ok(Response::new(Full::from(EXPIRED).boxed())),
                };
            }
            let mut lists = self.lists.lock().unwrap();
            lists.push(now);
            let name = format!("listed-{}", lists.len());
            let list = format!(
                r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{{"metadata":{{"name":"{name}","uid":"{name}","resourceVersion":"7"}}}}]}}"#
            );
            Ok(Response::new(Full::from(list).boxed()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_lists_again_within_two_seconds_of_an_api_server_that_is_back() {
        const AWAY: Duration = Duration::from_secs(60);
        let server = Arc::new(Restarting {
            back_at: Instant::now() + AWAY,
            lists: Mutex::default(),
            watches: AtomicUsize::default(),
        });
        let answering = server.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let answer = answering.answer(request.uri());
            async move { answer }
        });
        let cluster = Cluster::with_client(kube::Client::new(service, "default"));
        let (room, mut seen) = mpsc::channel(16);
        tokio::spawn(feed(cluster, Resource::ConfigMaps, room, CancellationToken::new()));
        while let Some(seen) = seen.recv().await {
            if matches!(seen.event, WatchEvent::Put { meta, .. } if meta.name == "listed-2") {
                break;
            }
        }
        let waited = Instant::now().duration_since(server.back_at);
        assert!(waited <= Duration::from_secs(2), "{waited:?} after the API server was back");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_watch_that_gets_through_wakes_all_others() {
        const AWAY: Duration = Duration::from_secs(60);
        let back_at = Instant::now() + AWAY;
        let service = tower::service_fn(move |request: http::Request<Body>| async move {
            if Instant::now() < back_at {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
            }
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let open = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                return Ok(Response::new(BodyExt::boxed(StreamBody::new(open))));
            }
            let list = r#"{"metadata":{"resourceVersion":"7"},"items":[]}"#;
            Ok(Response::new(Full::<Bytes>::from(list).boxed()))
        });
        let cluster = Cluster::with_client(kube::Client::new(service, "default"));
        let (room, mut seen) = mpsc::channel(64);
        const WATCHES: usize = 32;
        for _ in 0..WATCHES {
            tokio::spawn(feed(cluster.clone(), Resource::ConfigMaps, room.clone(), CancellationToken::new()));
        }
        let mut synced = Vec::new();
        while synced.len() < WATCHES {
            if let Some(FromWatch { event: WatchEvent::Synced, .. }) = seen.recv().await {
                synced.push(Instant::now());
            }
        }
        let all = synced[WATCHES - 1].duration_since(synced[0]);
        assert!(all <= RECOVERY_SPREAD * 2, "{all:?} between the first and the last");
    }

    fn object(name: &str, uid: &str, version: &str) -> RawObject {
        let text = format!(
            "{{\"metadata\":{{\"name\":\"{name}\",\"uid\":\"{uid}\",\"resourceVersion\":\"{version}\"}}}}"
        );
        serde_json::from_str(&text).unwrap()
    }

    fn run(known: &mut Tracker, events: Vec<Event<RawObject>>) -> Vec<String> {
        let resource = Resource::Pods.api();
        let events = events.into_iter().flat_map(|event| known.on_event(event, &resource));
        events
            .map(|event| match event {
                WatchEvent::Put { meta, .. } => format!("+{}@{}", meta.name, meta.resource_version),
                WatchEvent::Gone { meta, .. } => format!("-{}", meta.uid),
                WatchEvent::Synced => "synced".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_relist_tells_what_is_new_what_changed_and_what_went() {
        let mut known = Tracker::default();
        let first = vec![
            Event::Init,
            Event::InitApply(object("a", "1", "1")),
            Event::InitApply(object("b", "2", "2")),
            Event::InitDone,
        ];
        assert_eq!(run(&mut known, first), ["+a@1", "+b@2", "synced"]);
        let second = vec![
            Event::Init,
            Event::InitApply(object("b", "9", "8")),
            Event::InitApply(object("c", "3", "9")),
            Event::InitDone,
        ];
        assert_eq!(run(&mut known, second), ["-2", "+b@8", "+c@9", "-1"]);
    }
}
