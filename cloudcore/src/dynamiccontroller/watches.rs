//! Watches of the MetaServers of KubeEdge's edges: what they show goes down as objects that the node acknowledges.
//!
//! ```text
//! begin() --may the node?--> [running] --list, watch as the node--> API server
//!                               |  shows, no longer shows
//!                               v
//!                  the node's set of what it watches --> session
//! ```
//!
//! A watch runs while its node is connected, and goes on in the next session with a new list, until the node tells which watches it
//! has without it (`watchapp/sync`): edges of KubeEdge tell that when one of theirs ends, and not when they connect. What was shown
//! is kept for a while after the session, so that what has gone meanwhile is taken from the node; after a restart of CloudCore
//! nothing of this is known.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::kinds::api_version;
use apimachinery::path::is_discovery;
use daemon::backoff::Backoff;
use futures_util::StreamExt as _;
use kube::core::ApiResource;
use message::{Application, Json, NodeName, ObjectKey, ObjectKind, ResourceVersion, Status};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Requests;
use super::node_client::NodeReads;
use super::shown::{OBJECTS, Shown};
use crate::desired::{NodeSet, Source, Sources, Wanted};
use crate::kubernetes::{Meta, Selection, WatchEvent};

/// Watches of one node at once.
const WATCHES: usize = 100;
/// How long it is known what a node was shown that is not connected.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// How long it is known what a node watches that is not connected.
const GOES_ON: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of what a watch selects, which are kept as long.
const SELECTS: usize = 16 * 1024;
/// First and longest wait before a watch that broke is begun again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The room. Clones share the watches.
#[derive(Clone)]
pub struct Watches {
    requests: Requests,
    /// What nodes have without watching it.
    others: Sources,
    nodes: Arc<Mutex<HashMap<String, Node>>>,
}

/// One node that watches.
#[derive(Default)]
struct Node {
    session: Option<(u64, NodeSet)>,
    /// By the application's id; one that ends here stops.
    running: HashMap<String, DropGuard>,
    /// Those that could be begun: they go on in the next session.
    begun: HashMap<String, Application>,
    shown: Shown,
    left: Option<Instant>,
}

impl Node {
    fn end(&mut self, id: &str) {
        self.running.remove(id);
        self.begun.remove(id);
    }
}

/// One watch as its task sees it.
struct Running {
    room: Watches,
    node: NodeName,
    /// Of the application.
    id: String,
    set: NodeSet,
    kind: ObjectKind,
    selection: Selection,
    /// Version of the cluster, as far as it is known.
    newest: u64,
    stop: CancellationToken,
}

impl Watches {
    /// `others`: the sources of what nodes have in any case, which is never taken from them here.
    pub fn new(requests: Requests, others: Sources) -> Watches {
        Watches { requests, others, nodes: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch, unless it is watched, as soon as the API server has said that the node may.
    ///
    /// # Errors
    /// The API server's refusal; 400 for an application that cannot be read, 413 for one that is too large, 429 for more than
    /// [`WATCHES`], 503 without a session.
    pub(super) async fn begin(&self, node: &NodeName, application: &Application) -> Result<(), Status> {
        if application.option.bytes().len() + application.req_body.bytes().len() + application.key.len()
            > SELECTS
        {
            return Err(Status::too_large(SELECTS));
        }
        let id = application.clone().named().id;
        let stop = CancellationToken::new();
        let set = {
            let mut nodes = self.lock();
            let known = nodes.get_mut(node.as_str());
            let Some((known, (_, set))) =
                known.and_then(|node| node.session.clone().map(|session| (node, session)))
            else {
                return Err(Status::new(503, "ServiceUnavailable", format!("node {node} is not connected")));
            };
            if known.running.contains_key(&id) {
                return Ok(());
            }
            if known.running.len() >= WATCHES {
                let text = format!("node {node} watches as much as a node may: {WATCHES} times");
                return Err(Status::new(429, "TooManyRequests", text));
            }
            known.running.insert(id.clone(), stop.clone().drop_guard());
            set
        };
        match self.select(node, application).await {
            Ok((kind, selection, newest)) => {
                if let Some(known) = self.lock().get_mut(node.as_str()) {
                    known.begun.insert(id.clone(), application.clone());
                }
                let (room, node) = (self.clone(), node.clone());
                let running = Running { room, node, id, set, kind, selection, newest, stop };
                tokio::spawn(running.run());
                Ok(())
            }
            Err(status) => {
                self.end(node, &id);
                Err(status)
            }
        }
    }

    /// What is to be watched, and the version of the cluster now. One object is listed, to learn this, whether the node may, and what
    /// the kind is called.
    async fn select(
        &self,
        node: &NodeName,
        application: &Application,
    ) -> Result<(ObjectKind, Selection, u64), Status> {
        let (resource, namespace) = application.resource()?;
        let (labels, fields) = application.selectors()?;
        let path = application.call(is_discovery)?.path;
        let path = format!("{path}{}limit=1", if path.contains('?') { '&' } else { '?' });
        let client = NodeReads { requests: self.requests.clone(), node: node.clone() }.into_client();
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Status::new(400, "BadRequest", error.to_string()))?;
        let list = client.request_text(request).await.map_err(crate::kubernetes::to_status)?;
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct List {
            kind: String,
            metadata: Version,
        }
        #[derive(Default, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Version {
            resource_version: String,
        }
        let List { kind, metadata } = serde_json::from_str(&list).unwrap_or_default();
        let kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty()).ok_or_else(|| {
            Status::new(502, "BadGateway", "the API server answered with no list to a question for one")
        })?;
        let resource = ApiResource {
            api_version: api_version(&resource.group, &resource.version),
            group: resource.group,
            version: resource.version,
            kind: kind.to_owned(),
            plural: resource.resource,
        };
        let of = ObjectKind::of_object(&resource.api_version, &kind.to_lowercase());
        let newest = metadata.resource_version.parse().unwrap_or_default();
        Ok((of, Selection { resource, namespace, labels, fields }, newest))
    }

    fn end(&self, node: &NodeName, id: &str) {
        if let Some(node) = self.lock().get_mut(node.as_str()) {
            node.end(id);
        }
    }

    /// Begins again, in the session `epoch`, what was watched in the one before.
    async fn go_on(self, node: NodeName, epoch: u64, begun: Vec<Application>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        for application in begun {
            loop {
                if !self.is_in(&node, epoch, &application) {
                    break;
                }
                let Err(status) = self.begin(&node, &application).await else { break };
                if !status.is_retryable() {
                    tracing::warn!(%node, operation = application.about(), error = %status, "watch of a node not gone on with");
                    break;
                }
                // It is still the node's.
                if let Some(known) = self.lock().get_mut(node.as_str()) {
                    known.begun.insert(application.clone().named().id, application.clone());
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    /// True if the node of this session watches this.
    fn is_in(&self, node: &NodeName, epoch: u64, application: &Application) -> bool {
        let nodes = self.lock();
        let Some(known) = nodes.get(node.as_str()) else { return false };
        known.session.as_ref().is_some_and(|(current, _)| *current == epoch)
            && known.begun.contains_key(&application.clone().named().id)
    }

    /// Ends all watches of `node` but these.
    pub(super) fn end_all_but(&self, node: &NodeName, is_watched: impl Fn(&str) -> bool) {
        if let Some(node) = self.lock().get_mut(node.as_str()) {
            node.running.retain(|id, _| is_watched(id));
            node.begun.retain(|id, _| is_watched(id));
            node.shown.keep(is_watched);
        }
    }

    /// Reads or changes what a node was shown.
    fn shown<T>(&self, node: &NodeName, work: impl FnOnce(&mut Shown) -> T) -> Option<T> {
        self.lock().get_mut(node.as_str()).map(|node| work(&mut node.shown))
    }
}

impl Source for Watches {
    fn subscribe(&self, node: &str, epoch: u64, set: &NodeSet) {
        let mut nodes = self.lock();
        let now = Instant::now();
        let left =
            |node: &Node, time: Duration| node.left.is_some_and(|left| now.duration_since(left) >= time);
        nodes.retain(|_, node| !left(node, GOES_ON));
        nodes.values_mut().filter(|node| left(node, KEPT)).for_each(|node| node.shown = Shown::default());
        let known = nodes.entry(node.to_owned()).or_default();
        let is_new = known.session.as_ref().is_none_or(|(current, _)| *current != epoch);
        (known.session, known.left) = (Some((epoch, set.clone())), None);
        if !is_new {
            return;
        }
        known.running.clear();
        let begun: Vec<Application> = known.begun.values().cloned().collect();
        drop(nodes);
        if let Ok(node) = NodeName::new(node)
            && !begun.is_empty()
        {
            tokio::spawn(self.clone().go_on(node, epoch, begun));
        }
    }

    fn unsubscribe(&self, node: &str, epoch: u64) {
        let mut nodes = self.lock();
        let Some(known) = nodes.get_mut(node) else { return };
        if known.session.as_ref().is_some_and(|(current, _)| *current == epoch) {
            (known.session, known.left) = (None, Some(Instant::now()));
            known.running.clear();
            if known.shown.is_empty() && known.begun.is_empty() {
                nodes.remove(node);
            }
        }
    }

    fn mark_of(&self, _: &ObjectKey) -> Option<u64> {
        None
    }
}

impl Running {
    async fn run(mut self) {
        let reads = NodeReads { requests: self.room.requests.clone(), node: self.node.clone() };
        let mut events = pin!(self.selection.events(reads.into_client()));
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        // What the first list has.
        let mut listed = Some(HashSet::new());
        loop {
            let event = tokio::select! {
                biased;
                _ = self.stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Ok(event)) => {
                    backoff.reset();
                    if !self.take_in(event, &mut listed) {
                        return self.room.end(&self.node, &self.id);
                    }
                }
                Some(Err(status)) if matches!(status.code, 401 | 403 | 404) => {
                    let (node, resource) = (&self.node, &self.selection.resource.plural);
                    tracing::warn!(%node, resource, error = %status, "watch of a node ended: it may no longer");
                    return self.room.end(&self.node, &self.id);
                }
                Some(Err(status)) => {
                    tracing::debug!(node = %self.node, error = %status, "watch of a node interrupted");
                    tokio::select! {
                        biased;
                        _ = self.stop.cancelled() => return,
                        _ = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        }
    }

    /// Tells the node. False if there is no room for more.
    fn take_in(&mut self, event: WatchEvent, listed: &mut Option<HashSet<String>>) -> bool {
        if let WatchEvent::Put { meta, .. } | WatchEvent::Gone { meta, .. } = &event {
            self.newest = self.newest.max(meta.resource_version.parse().unwrap_or_default());
        }
        match event {
            WatchEvent::Put { meta, object } => {
                if let Some(listed) = listed {
                    listed.insert(meta.uid.clone());
                }
                return self.put(&meta, object);
            }
            WatchEvent::Gone { meta, object, .. } => self.gone(&self.key(&meta), &meta.uid, object),
            WatchEvent::Synced => {
                let Some(listed) = listed.take() else { return true };
                let missing = self.room.shown(&self.node, |shown| shown.unlisted(&self.id, &listed));
                for (key, uid) in missing.unwrap_or_default() {
                    let stub = self.selection.stub(key.namespace.as_deref(), &key.name, &uid);
                    self.gone(&key, &uid, stub);
                }
            }
        }
        true
    }

    fn key(&self, meta: &Meta) -> ObjectKey {
        ObjectKey::new(meta.namespace.as_deref(), self.kind.clone(), &meta.name)
    }

    fn put(&self, meta: &Meta, object: Json) -> bool {
        let (key, uid) = (self.key(meta), meta.uid.clone());
        match self.room.shown(&self.node, |shown| shown.put(&self.id, &uid, &key)) {
            None => return true,
            Some(Ok(())) => {}
            Some(Err(_)) => {
                let (node, resource) = (&self.node, &self.selection.resource.plural);
                tracing::warn!(%node, resource, objects = OBJECTS, "watch of a node ended: it shows more than a node may be shown");
                return false;
            }
        }
        let version = ResourceVersion(meta.resource_version.clone());
        // Whoever watches hears of everything, also of what no node reacts to.
        let wanted = Wanted { key, uid, version, mark: 0, object: object.into() };
        self.set.with_watched(|watched| watched.put(wanted));
        true
    }

    /// It is gone, or no longer what is watched: the node keeps what it has for its pods.
    fn gone(&self, key: &ObjectKey, uid: &str, object: Json) {
        let is_last = self.room.shown(&self.node, |shown| shown.gone(&self.id, uid)).unwrap_or_default();
        if is_last && !self.room.others.is_wanted(self.node.as_str(), key) {
            let object = dated(object, self.newest);
            self.set.with_watched(|watched| watched.remove(key, uid, object, true));
        }
    }
}

/// With a version, if it has none: KubeEdge's edges tell their clients of what is newer than a version only, and of nothing without
/// one (`imitator/watchhook`).
fn dated(object: Json, newest: u64) -> Json {
    let Ok(mut value) = object.parse::<serde_json::Value>() else { return object };
    let metadata = &mut value["metadata"];
    match metadata["resourceVersion"].as_str() {
        Some(version) if !version.is_empty() => object,
        _ => {
            metadata["resourceVersion"] = newest.to_string().into();
            Json::of(&value)
        }
    }
}
