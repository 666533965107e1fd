//! Gathers what filters have to know: from views that are kept anyway, whoever asked for them, and from two that MetaServer keeps
//! itself, as the node, where the cloud lets it.
//!
//! ```text
//! views of Services, nodes, slices --+
//! statuses of pods not taken yet   --+--> Facts --> watches look again
//! where pods reach MetaServer      --+
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::object::{list, text};
use apimachinery::{FieldSelector, Status};
use futures_util::future::BoxFuture;
use kubeapi::stored::{Key, Lens, ListQuery, Stored};
use metamanager::{KnownPort, KnownService};
use serde_json::Value;
use store::StoreError;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::backend::Shared;
use crate::caller::Caller;
use crate::filters::Glass;
use crate::filters::facts::{Facts, Place, SLICES, Sources, Topology};
use crate::queue::{Queued, Write};
use crate::scope::Scope;
use crate::tables::trouble;
use crate::views::Views;

/// What comes within this time is looked at once.
const GATHER: Duration = Duration::from_millis(100);
/// The node's own object may be kept without a view.
const LOOK: Duration = Duration::from_secs(30);
/// After the cloud took a pod's status, its slices follow within this time.
const FOLLOWS: Duration = Duration::from_secs(60);
/// Between attempts to have a view that the cloud refuses.
const REFUSED: Duration = Duration::from_secs(600);

fn query(resource: &str, api_version: &str) -> ListQuery {
    ListQuery { resource: resource.to_owned(), api_version: api_version.to_owned(), ..ListQuery::default() }
}

/// Whether a status says that its pod is ready; `None`: it says nothing of it.
pub(crate) fn is_ready(status: &Value) -> Option<bool> {
    if matches!(text(status, "/phase"), "Failed" | "Succeeded") {
        return Some(false);
    }
    let mut conditions = list(status, "/conditions").iter();
    let ready = conditions.find(|condition| text(condition, "/type") == "Ready")?;
    // A patch may say something else of it.
    ready["status"].as_str().map(|status| status == "True")
}

/// A Service as pods are told of it; `None`: it has no address.
fn known_service(stored: &Stored) -> Option<KnownService> {
    let service = stored.value().ok()?;
    let ip = text(&service, "/spec/clusterIP");
    let port = |port: &Value| {
        Some(KnownPort {
            name: text(port, "/name").to_owned(),
            port: u16::try_from(port["port"].as_u64()?).ok()?,
            protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
        })
    };
    (!matches!(ip, "" | "None")).then(|| KnownService {
        namespace: stored.key.namespace.clone(),
        name: stored.key.name.clone(),
        ip: ip.to_owned(),
        ports: list(&service, "/spec/ports").iter().filter_map(port).collect(),
    })
}

impl Shared {
    async fn items(&self, query: &ListQuery) -> Result<Option<Vec<Stored>>, Status> {
        Ok(self.views.peek(query).await?.map(|state| state.items))
    }

    /// This node's object, as far as it is known.
    async fn own_node(&self) -> Result<Option<Value>, Status> {
        let name = &self.users.node;
        let mut own = query("nodes", "v1");
        own.fields = FieldSelector::parse(&format!("metadata.name={name}"))
            .map_err(|error| Status::internal(error.to_string()))?;
        if let Some(found) = self.items(&own).await?.and_then(|mut items| items.pop()) {
            return found.value().map(Some);
        }
        let scope = Scope::of(&query("nodes", "v1"));
        let kept = self.tables.kept("v1", &Key::new("nodes", "", name)).await;
        let kept = kept.map_err(|error| trouble(&error))?.map(|(found, _)| found);
        let found = match kept {
            Some(found) => Some(found),
            None => self.held.get(&scope, name).await?,
        };
        found.map(|found| found.value()).transpose()
    }

    /// Pods whose readiness the cloud, or its slices, may not know yet.
    async fn readiness(&self, writes: &[Write]) -> BTreeMap<Place, bool> {
        let mut told = self.gathered.told.lock().await;
        let until = Instant::now() + FOLLOWS;
        for write in writes.iter().filter(|write| write.kind == Queued::PodStatus) {
            if let Some(ready) = is_ready(&write.body["status"]) {
                told.insert((write.namespace.clone(), write.name.clone()), (ready, until));
            }
        }
        if self.is_connected() {
            told.retain(|_, (_, until)| *until > Instant::now());
        }
        told.iter().map(|(pod, (ready, _))| (pod.clone(), *ready)).collect()
    }

    /// Who reads here sees what waits, from now on.
    pub(crate) async fn show_writes(&self) -> Result<(), StoreError> {
        let (_, shown) = self.waiting_writes().await?;
        self.gathered.facts.send_if_modified(|known| {
            let is_new = known.writes != shown;
            if is_new {
                *known = Arc::new(Facts { writes: shown, ..(**known).clone() });
            }
            is_new
        });
        Ok(())
    }

    /// Writes of this node that wait for the cloud: those of a kubelet, and statuses of pods that EdgeCore runs itself; and those
    /// that are shown. What EdgeCore says itself the cloud has in a moment while it is connected.
    async fn waiting_writes(&self) -> Result<(Vec<Write>, Vec<Write>), StoreError> {
        let statuses = match &self.outbox {
            Some(outbox) => outbox.pod_statuses().await?,
            None => Vec::new(),
        };
        let waiting = self.queue.waiting().borrow().clone();
        let queued: Vec<Write> = waiting.iter().map(|(_, write)| write.clone()).collect();
        let of_pod = |(namespace, name, patch): (String, String, String)| {
            Write::status_of_pod(namespace, name, &patch)
        };
        let all: Vec<Write> = statuses.into_iter().map(of_pod).chain(queued.iter().cloned()).collect();
        let shown = if self.is_connected() { queued } else { all.clone() };
        Ok((all, shown))
    }

    /// Reads the facts anew, and tells watches if they are others.
    pub(crate) async fn gather(&self) -> Result<(), Status> {
        let address = self.reach.borrow().as_ref().and_then(|reach| reach.pods);
        let (all, writes) = self.waiting_writes().await.map_err(|error| trouble(&error))?;
        let mut sources = Sources {
            node: self.users.node.clone(),
            address,
            own: self.own_node().await?,
            nodes: self.items(&query("nodes", "v1")).await?,
            services: self.items(&query("services", "v1")).await?,
            slices: None,
            ready: self.readiness(&all).await,
            writes,
        };
        if let Some(services) = &sources.services {
            let known: Vec<_> = services.iter().filter_map(known_service).collect();
            self.gathered.services.send_if_modified(|before| {
                let is_new = **before != known;
                if is_new {
                    *before = Arc::new(known);
                }
                is_new
            });
        }
        let mut facts = Facts::of(&sources);
        if facts.has_near() {
            sources.slices = self.items(&query(SLICES, "discovery.k8s.io/v1")).await?;
            facts = Facts::of(&sources);
        }
        self.gathered.facts.send_if_modified(|known| {
            let is_new = **known != facts;
            if is_new {
                *known = Arc::new(facts);
            }
            is_new
        });
        Ok(())
    }

    /// How a client sees objects; `None`: as they are.
    pub(crate) fn lens(&self, glass: Glass, query: &ListQuery) -> Option<Seeing> {
        let (views, facts) = (self.views.clone(), self.gathered.facts.subscribe());
        let seen = facts.borrow().clone();
        (!glass.is_clear()).then(|| Seeing { views, glass, facts, seen, query: query.clone() })
    }
}

/// The eyes of one watch.
pub(crate) struct Seeing {
    views: Views,
    glass: Glass,
    facts: watch::Receiver<Arc<Facts>>,
    /// As they were when it was looked at them last.
    seen: Arc<Facts>,
    query: ListQuery,
}

impl Lens for Seeing {
    fn show(&mut self, stored: &Stored) -> Option<Stored> {
        self.glass.show(&self.facts.borrow(), stored)
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                if self.facts.changed().await.is_err() {
                    return std::future::pending().await;
                }
                let facts = self.facts.borrow_and_update().clone();
                let matters = self.glass.is_of_writes() || !facts.is_same_but_for_writes(&self.seen);
                self.seen = facts;
                if matters {
                    return;
                }
            }
        })
    }

    fn state(&mut self) -> BoxFuture<'_, Result<Vec<Stored>, Status>> {
        Box::pin(async {
            let state = self.views.peek(&self.query).await?;
            Ok(state.map(|state| state.items).unwrap_or_default())
        })
    }

    fn may_differ(&self, stored: &Stored) -> bool {
        self.glass.may_differ(&self.facts.borrow(), stored)
    }
}

/// Gathers for as long as it is polled.
pub(crate) async fn run(shared: &Shared) {
    let (mut views, mut slices) = (shared.views.told(), shared.views.told_slices());
    let mut connected = shared.upstream.connected();
    let mut reach = shared.reach.clone();
    let mut waiting = shared.queue.waiting();
    let mut statuses = shared.outbox.as_ref().map(metamanager::Outbox::changes);
    loop {
        let began = Instant::now();
        if let Err(status) = shared.gather().await {
            tracing::warn!(error = %status, "what filters need to know cannot be read");
        }
        let took = began.elapsed();
        let has_near = shared.gathered.facts.borrow().has_near();
        let reported = async {
            match &mut statuses {
                Some(statuses) => statuses.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = views.changed() => {}
            Ok(()) = slices.changed(), if has_near => {}
            Ok(()) = connected.changed() => {}
            Ok(()) = reach.changed() => {}
            Ok(()) = reported => {}
            Ok(()) = waiting.changed() => {}
            () = sleep(LOOK) => {}
        }
        // With many Services, a tenth of the time at most.
        sleep(GATHER.max(took * 10)).await;
    }
}

/// Keeps views of Services, and of nodes where a Service stays within a pool or a zone, as the node.
pub(crate) async fn keep(shared: &Shared, is_wanted: bool) {
    if !is_wanted {
        return;
    }
    let services = hold(shared, query("services", "v1"));
    let nodes = async {
        let mut facts = shared.gathered.facts.subscribe();
        let needs = |facts: &Arc<Facts>| facts.services.values().any(|topology| *topology != Topology::Node);
        if facts.wait_for(needs).await.is_ok() {
            hold(shared, query("nodes", "v1")).await;
        }
    };
    tokio::join!(services, nodes);
}

async fn hold(shared: &Shared, query: ListQuery) {
    let mut connected = shared.upstream.connected();
    loop {
        let node = Caller::node(shared.users.node_user());
        match shared.views.join(&query, node).await {
            Ok((mut changes, _watching)) => while !matches!(changes.recv().await, Err(RecvError::Closed)) {},
            Err(status) => {
                tracing::debug!(resource = %query.resource, error = %status, "the node has no view of these");
                tokio::select! {
                    () = sleep(REFUSED) => {}
                    _ = connected.changed() => {}
                }
            }
        }
        sleep(GATHER).await;
    }
}
