//! Views: what clients watch, each with one list and one watch in the cloud, however many watch here.
//!
//! ```text
//! cloud --list, watch--> View (a task) --commit--> tables --then--> log, subscribers --> watches of clients
//! ```
//!
//! A view lives while it is watched and a little longer; its state stays in the database, and the next one of its scope
//! goes on from there. While the node is cut off it stands still, and its watchers stay. Promises: a state is complete or
//! not there; what is told to watchers is committed; each change is told once, in the order of the revisions.

mod callers;
mod follow;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::Status;
use kubeapi::stored::{ListQuery, Replay, Stored, Subscription};
use store::StoreError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caller::Caller;
use crate::filters::facts as filters;
use crate::scope::Scope;
use crate::tables::{State, Tables, trouble};
use crate::upstream::Upstream;
pub(crate) use view::{View, Watching};

/// What happens to the objects of a view.
pub(crate) type Changes = tokio::sync::broadcast::Receiver<Arc<kubeapi::stored::Event>>;

/// How much clients may have kept here.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Views that live at once.
    pub views: usize,
    /// Lists in the database.
    pub lists: i64,
    /// Objects and bytes of one of them.
    pub objects_of_one: i64,
    pub bytes_of_one: i64,
    /// Of all of them.
    pub objects: i64,
    pub bytes: i64,
    /// A view that nobody watches ends after this.
    pub idle: Duration,
    /// A list that nobody asks for is forgotten after this.
    pub forgotten: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            views: 100,
            lists: 300,
            objects_of_one: 5_000,
            bytes_of_one: 16 * 1024 * 1024,
            objects: 20_000,
            bytes: 64 * 1024 * 1024,
            idle: Duration::from_secs(300),
            forgotten: Duration::from_secs(7 * 86_400),
        }
    }
}

/// Handle of the views.
#[derive(Clone)]
pub(crate) struct Views(Arc<Shared>);

pub(super) struct Shared {
    pub tables: Tables,
    pub upstream: Arc<dyn Upstream>,
    pub bounds: Bounds,
    pub stop: CancellationToken,
    live: Mutex<HashMap<Scope, Arc<View>>>,
    tasks: TaskTracker,
    /// Told after every change of Services and nodes, which filters read.
    told: tokio::sync::watch::Sender<()>,
    /// The same of EndpointSlices, which change more often.
    told_slices: tokio::sync::watch::Sender<()>,
    /// Held by who begins a view or keeps a list: a list that a view goes on from is replaced by nobody else.
    changing: tokio::sync::Mutex<()>,
}

/// How often a view is begun for one watch, if it ends meanwhile.
const ATTEMPTS: u32 = 3;

/// Time for views to end.
const ENDING: Duration = Duration::from_secs(3);

/// Why a watch cannot be had.
pub(crate) fn unknown(scope: &Scope) -> Status {
    let of =
        scope.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let text = format!(
        "this node is cut off from the cloud, and holds no complete list of {}{of} with these selectors",
        scope.resource
    );
    Status::unavailable(text)
}

/// Objects and bytes.
fn size(items: &[Stored]) -> (i64, i64) {
    let bytes: usize = items.iter().map(|stored| stored.body.len()).sum();
    let number = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    (number(items.len()), number(bytes))
}

impl Shared {
    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<Scope, Arc<View>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a scope has changed.
    pub(super) fn tell(&self, scope: &Scope) {
        match scope.resource.as_str() {
            "services" | "nodes" => self.told.send_replace(()),
            filters::SLICES => self.told_slices.send_replace(()),
            _ => {}
        }
    }

    /// Takes a view that has ended out of the map.
    pub(super) fn ended(&self, view: &Arc<View>) {
        let mut live = self.live();
        if live.get(view.scope()).is_some_and(|other| Arc::ptr_eq(other, view)) {
            live.remove(view.scope());
        }
    }

    /// The state of a scope, or what chooses it from one that holds all of it; that one's time.
    pub(super) async fn state(&self, query: &ListQuery) -> Result<Option<State>, StoreError> {
        for scope in Scope::of(query).wider() {
            if let Some(state) = self.state_in(&scope, query).await? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// What `query` chooses of the state of `scope`, which holds all of it.
    async fn state_in(&self, scope: &Scope, query: &ListQuery) -> Result<Option<State>, StoreError> {
        let Some(mut state) = self.tables.state(scope).await? else { return Ok(None) };
        let of = |stored: &Stored| {
            query.namespace.as_ref().is_none_or(|namespace| *namespace == stored.key.namespace)
                && query.selects(stored)
        };
        if *scope != Scope::of(query) {
            state.items.retain(of);
        }
        Ok(Some(state))
    }
}

impl Views {
    pub(crate) fn new(
        tables: Tables,
        upstream: Arc<dyn Upstream>,
        bounds: Bounds,
        stop: CancellationToken,
    ) -> Views {
        let (live, tasks, changing) = (Mutex::default(), TaskTracker::new(), tokio::sync::Mutex::default());
        let (told, told_slices) = (tokio::sync::watch::Sender::new(()), tokio::sync::watch::Sender::new(()));
        Views(Arc::new(Shared { tables, upstream, bounds, stop, live, tasks, told, told_slices, changing }))
    }

    /// Watches a scope: begins its view if there is none. `caller` may list it.
    ///
    /// # Errors
    /// There is no state and none can be had now, the cloud refuses it, or there is no room.
    pub(crate) async fn watch(&self, query: &ListQuery, caller: Caller) -> Result<Subscription, Status> {
        let (events, guard) = self.join(query, caller).await?;
        Ok(Subscription::new(events).holding(guard))
    }

    /// As [`Views::watch`], for this program's own use: the changes, and what keeps the view.
    pub(crate) async fn join(
        &self,
        query: &ListQuery,
        caller: Caller,
    ) -> Result<(Changes, Watching), Status> {
        let scope = Scope::of(query);
        let mut left = ATTEMPTS;
        let (view, guard) = loop {
            let view = self.open(&scope, query)?;
            // Before it is waited for: the view asks as him.
            let guard = view.join(caller.clone());
            left -= 1;
            match view.ready().await {
                Ok(()) => break (view, guard),
                // It ended at this moment, because nobody had watched it.
                Err(status) if status.retry_after.is_some() && left > 0 => {}
                Err(status) => return Err(status),
            }
        };
        self.0.tables.asked(&scope, daemon::clock::unix_seconds()).await.map_err(|error| trouble(&error))?;
        Ok((view.subscribe(), guard))
    }

    /// Told after every change of Services and nodes.
    pub(crate) fn told(&self) -> tokio::sync::watch::Receiver<()> {
        self.0.told.subscribe()
    }

    /// Told after every change of EndpointSlices.
    pub(crate) fn told_slices(&self) -> tokio::sync::watch::Receiver<()> {
        self.0.told_slices.subscribe()
    }

    /// As [`Views::state`], without a client that asks.
    pub(crate) async fn peek(&self, query: &ListQuery) -> Result<Option<State>, Status> {
        self.0.state(query).await.map_err(|error| trouble(&error))
    }

    fn open(&self, scope: &Scope, query: &ListQuery) -> Result<Arc<View>, Status> {
        let mut live = self.0.live();
        if let Some(view) = live.get(scope).filter(|view| !view.has_ended()) {
            return Ok(view.clone());
        }
        let lives = || live.values().filter(|view| !view.has_ended());
        if lives().count() >= self.0.bounds.views {
            let unwatched = lives().filter(|view| !view.is_watched());
            let Some(oldest) = unwatched.min_by_key(|view| view.last_watched()) else {
                let text = format!("this node already keeps {} views, and all are watched", lives().count());
                return Err(Status::unavailable(text));
            };
            oldest.end();
        }
        let view = Arc::new(View::new(scope.clone(), query));
        // One that has ended may still be writing.
        let before = live.insert(scope.clone(), view.clone());
        self.0.tasks.spawn(follow::run(self.0.clone(), view.clone(), before));
        Ok(view)
    }

    /// The view of a scope, if it lives and has a state.
    pub(crate) fn of(&self, query: &ListQuery) -> Option<Arc<View>> {
        self.0.live().get(&Scope::of(query)).filter(|view| view.is_ready()).cloned()
    }

    /// The scope of a view that follows the cloud and holds all of `scope`.
    pub(crate) fn in_step(&self, scope: &Scope) -> Option<Scope> {
        let live = self.0.live();
        let follows = |view: &&Arc<View>| view.is_ready() && view.is_in_step();
        scope.wider().into_iter().find(|wider| live.get(wider).filter(follows).is_some())
    }

    /// What `query` chooses of the state of such a view.
    pub(crate) async fn chosen(&self, of: &Scope, query: &ListQuery) -> Result<Option<State>, Status> {
        self.0.state_in(of, query).await.map_err(|error| trouble(&error))
    }

    /// What is after `since` in the view of a scope.
    pub(crate) fn replay(&self, query: &ListQuery, since: i64) -> Result<Replay, Status> {
        let ended = || Status::expired(format!("too old resource version: {since}: this view has ended"));
        self.of(query).map(|view| view.replay(since)).ok_or_else(ended)
    }

    /// The state of a scope that is known, complete.
    pub(crate) async fn state(&self, query: &ListQuery) -> Result<Option<State>, Status> {
        let state = self.0.state(query).await.map_err(|error| trouble(&error))?;
        if state.is_some() {
            let now = daemon::clock::unix_seconds();
            self.0.tables.asked(&Scope::of(query), now).await.map_err(|error| trouble(&error))?;
        }
        Ok(state)
    }

    /// Keeps a whole list that a client got, unless a view knows better.
    pub(crate) async fn keep(
        &self,
        scope: &Scope,
        items: Vec<Stored>,
        revision: i64,
    ) -> Result<(), StoreError> {
        let (bounds, tables) = (&self.0.bounds, &self.0.tables);
        let (objects, bytes) = size(&items);
        let is_large = objects > bounds.objects_of_one || bytes > bounds.bytes_of_one;
        if revision == 0 || is_large {
            return Ok(());
        }
        let _changing = self.0.changing.lock().await;
        if self.0.live().contains_key(scope) {
            return Ok(());
        }
        let now = daemon::clock::unix_seconds();
        if let Some(State { known, items: before }) = tables.state(scope).await? {
            let is_same = before.len() == items.len()
                && before.iter().zip(&items).all(|(a, b)| a.key == b.key && a.revision == b.revision);
            if is_same && (0..60).contains(&(now - known.seen)) {
                return Ok(());
            }
            if is_same {
                return tables.seen(known.id, revision, Some(now)).await;
            }
        }
        tables.replace(scope, items, revision, now).await?;
        self.0.tell(scope);
        Ok(())
    }

    /// Forgets what is beyond the bounds, and ends views that have grown beyond theirs.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        let Shared { tables, bounds, .. } = &*self.0;
        let live: Vec<Arc<View>> = self.0.live().values().cloned().collect();
        let mut ids = Vec::with_capacity(live.len());
        for view in live {
            let Some(known) = tables.known(view.scope()).await? else { continue };
            let (objects, bytes) = tables.size(known.id).await?;
            if objects > bounds.objects_of_one || bytes > bounds.bytes_of_one {
                tracing::warn!(resource = %view.scope().resource, objects, bytes, "a view has grown too large and ends");
                view.end();
                self.0.ended(&view);
            } else {
                ids.push(known.id);
            }
        }
        let _changing = self.0.changing.lock().await;
        let since = daemon::clock::unix_seconds().saturating_sub_unsigned(bounds.forgotten.as_secs());
        tables.shrink(ids, since, (bounds.lists, bounds.objects, bounds.bytes)).await
    }

    /// Waits until what views were writing is written; they have been told to stop.
    pub(crate) async fn ended(&self) {
        self.0.tasks.close();
        if tokio::time::timeout(ENDING, self.0.tasks.wait()).await.is_err() {
            tracing::info!("views did not end in time");
        }
    }

    /// Views that live.
    pub(crate) fn count(&self) -> usize {
        self.0.live().len()
    }
}
