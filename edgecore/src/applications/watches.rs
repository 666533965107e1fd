//! Which watches the cloud has been told of (docs/protocol/transport.md 1.9). A KubeEdge cloud keeps them until a node tells which it
//! has (`watchapp/sync`): after each connect, and when one has ended here.
//!
//! ```text
//! join() --not begun--> `watch` --> begun --last one leaves--> idle --LINGER--> forgotten, sync
//!                                     '--link changes--> told by the next sync, has to be listed anew
//! ```
//! What is pushed between two readers is kept for the next if the one before was told to list, and is lost to him otherwise: then he
//! lists first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apimachinery::Status;
use message::{Application, Applications as All};
use metamanager::pushes::{Pushed, Pushes};
use metamanager::{Cloud, LinkState};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until};

/// Watches at once: as many as MetaServer keeps views of.
const MOST: usize = 1_000;
/// How long a watch stays begun that nobody reads: whoever follows lists, and comes again.
const LINGER: Duration = Duration::from_secs(60);
/// Time to be told to the cloud, behind others.
const BEGIN: Duration = Duration::from_secs(45);

/// Until a cloud that did not answer is told again.
const AGAIN: Duration = Duration::from_secs(30);

pub(super) type Receiver = broadcast::Receiver<Arc<Pushed>>;

/// The room. Clones share the watches.
#[derive(Clone)]
pub(super) struct Watches(Arc<Shared>);

struct Shared {
    cloud: Cloud,
    pushes: Pushes,
    state: Mutex<State>,
    /// Held by who tells the cloud.
    telling: tokio::sync::Mutex<()>,
    left: Notify,
}

#[derive(Default)]
struct State {
    known: HashMap<String, Known>,
    /// The cloud of this session knows which watches there are, and no others.
    is_synced: bool,
    /// There has been one. A cloud that takes streams hears of none.
    is_used: bool,
}

struct Known {
    application: Application,
    users: usize,
    idle_since: Instant,
    is_begun: bool,
    /// What has been pushed since the last reader was told to list.
    kept: Option<Receiver>,
    /// The cloud does not push this; it is not asked again in this session.
    refused: Option<Status>,
}

/// A reader of a watch.
pub(super) struct Reading {
    watches: Watches,
    id: String,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(known) = self.watches.state().known.get_mut(&self.id) {
            known.users = known.users.saturating_sub(1);
            known.idle_since = Instant::now();
        }
        self.watches.0.left.notify_one();
    }
}

impl Reading {
    /// The reader lists and comes again: what is pushed meanwhile is for him.
    pub(super) fn keep(self, pushes: Receiver) {
        if let Some(known) = self.watches.state().known.get_mut(&self.id) {
            known.kept = Some(pushes);
        }
    }
}

/// What is begun.
pub(super) struct Joined {
    pub reading: Reading,
    /// Since it was begun, or since the reader before was told to list.
    pub pushes: Receiver,
    /// What happened before may have been lost.
    pub is_new: bool,
}

impl Watches {
    /// Has to be made within a runtime; its task ends with the link's owner.
    pub(super) fn new(cloud: Cloud, pushes: Pushes) -> Watches {
        let (state, telling, left) = (Mutex::default(), tokio::sync::Mutex::default(), Notify::new());
        let watches = Watches(Arc::new(Shared { cloud, pushes, state, telling, left }));
        tokio::spawn(watches.clone().keep());
        watches
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a watch, unless it is begun. `follows`: what is told to this reader reaches who keeps the state.
    ///
    /// # Errors
    /// The cloud's refusal, 429 for more than [`MOST`], 503 if it cannot be told now.
    pub(super) async fn join(&self, application: &Application, follows: bool) -> Result<Joined, Status> {
        let id = application.id.clone();
        let reading = self.enter(application)?;
        // Before the cloud is told, so that nothing is missed.
        let pushes = self.0.pushes.subscribe();
        let begin = async {
            let _telling = self.0.telling.lock().await;
            self.sync().await?;
            self.begin(&id, application).await
        };
        let late = |_| Err(unavailable("it took too long to begin it"));
        tokio::time::timeout(BEGIN, begin).await.unwrap_or_else(late)?;
        let kept = match follows {
            true => self.state().known.get_mut(&id).and_then(|known| known.kept.take()),
            false => None,
        };
        Ok(Joined { reading, is_new: follows && kept.is_none(), pushes: kept.unwrap_or(pushes) })
    }

    fn enter(&self, application: &Application) -> Result<Reading, Status> {
        let mut state = self.state();
        state.is_used = true;
        let is_full = state.known.len() >= MOST && !state.known.contains_key(&application.id);
        if is_full {
            return Err(Status::new(
                429,
                "TooManyRequests",
                format!("this node watches {MOST} times already"),
            ));
        }
        let known = state.known.entry(application.id.clone()).or_insert_with(|| Known {
            application: application.clone(),
            users: 0,
            idle_since: Instant::now(),
            is_begun: false,
            kept: None,
            refused: None,
        });
        known.users += 1;
        Ok(Reading { watches: self.clone(), id: application.id.clone() })
    }

    /// Tells the cloud of one watch, if it does not know.
    async fn begin(&self, id: &str, application: &Application) -> Result<(), Status> {
        match self.state().known.get(id) {
            Some(Known { refused: Some(why), .. }) => return Err(why.clone()),
            Some(Known { is_begun: true, .. }) => return Ok(()),
            _ => {}
        }
        let begun = self.0.cloud.apply(application.clone()).await;
        let begun = begun.map_err(|error| unavailable(&error.to_string()))?;
        let mut state = self.state();
        let Some(known) = state.known.get_mut(id) else { return Ok(()) };
        (known.is_begun, known.refused) = (begun.is_ok(), begun.as_ref().err().cloned());
        if let Err(status) = &begun {
            tracing::warn!(operation = application.about(), error = %status, "the cloud does not push what is watched: it is listed instead");
        }
        begun.map(drop)
    }

    /// Tells the cloud which watches there are, once in a session. The caller holds `telling`.
    async fn sync(&self) -> Result<(), Status> {
        let all: All = {
            let state = self.state();
            if state.is_synced {
                return Ok(());
            }
            let begun = state.known.iter().filter(|(_, known)| known.is_begun);
            begun.map(|(id, known)| (id.clone(), known.application.clone())).collect()
        };
        let failed = self.0.cloud.watch_all(all).await;
        let failed = failed.map_err(|error| unavailable(&error.to_string()))?;
        let mut state = self.state();
        for (id, application) in failed {
            tracing::debug!(operation = application.about(), "the cloud did not go on with a watch");
            state.known.get_mut(&id).into_iter().for_each(|known| known.is_begun = false);
        }
        state.is_synced = true;
        Ok(())
    }

    /// The link has changed: what was pushed in between is lost.
    pub(super) fn unsettle(&self) {
        let mut state = self.state();
        state.is_synced = false;
        for known in state.known.values_mut() {
            (known.kept, known.refused) = (None, None);
        }
    }

    /// Tells the cloud after each connect, and when watches have ended.
    async fn keep(self) {
        let mut link = self.0.cloud.link();
        loop {
            let mut due = self.forget_idle();
            let is_connected = *link.borrow_and_update() == LinkState::Connected;
            if is_connected && self.state().is_used {
                let _telling = self.0.telling.lock().await;
                if let Err(status) = self.sync().await {
                    tracing::debug!(error = %status, "the cloud was not told which watches there are");
                    due = Some(Instant::now() + AGAIN);
                }
            }
            tokio::select! {
                changed = link.changed() => match changed {
                    Ok(()) => self.unsettle(),
                    Err(_) => return,
                },
                () = self.0.left.notified() => {}
                () = until(due) => {}
            }
        }
    }

    /// Forgets watches that nobody has read for long enough; when to look again.
    fn forget_idle(&self) -> Option<Instant> {
        let mut state = self.state();
        let (now, mut is_ended) = (Instant::now(), false);
        // What was refused is not asked again.
        let is_read = |known: &Known| known.users > 0 || known.refused.is_some();
        state.known.retain(|_, known| {
            let stays = is_read(known) || now < known.idle_since + LINGER;
            is_ended |= known.is_begun && !stays;
            stays
        });
        if is_ended {
            state.is_synced = false;
        }
        state.known.values().filter(|known| !is_read(known)).map(|known| known.idle_since + LINGER).min()
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn unavailable(why: &str) -> Status {
    Status::new(503, "ServiceUnavailable", format!("the cloud was not told of a watch: {why}"))
}
