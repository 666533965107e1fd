//! The task of a view: its list, then one watch after the other, each from where the one before ended.
//!
//! ```text
//! stored, or from a wider list, or listed --> Ready --watch--> commit, publish --ends--> watch again
//!                                               ^-- list again <-- 410          '-- cut off: waits
//!                                               ^-- list, tell what differs <-- untold
//! ```

use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use bytes::{Buf as _, BytesMut};
use daemon::clock::unix_seconds;
use http_body_util::BodyExt as _;
use store::StoreError;
use tokio::time::{Instant, sleep, timeout};

use super::view::View;
use super::{Shared, size, unknown};
use crate::ask::{self, Failure};
use crate::log;
use crate::object::{self, Told};
use crate::tables::{Change, State, trouble};

/// Asked of the API server for each watch.
const WATCH: Duration = Duration::from_secs(300);
/// A watch of which nothing is heard this long after its end is over.
const SLACK: Duration = Duration::from_secs(30);
/// A state that was seen this long ago is listed again rather than gone on from: API servers remember five minutes.
const FRESH: i64 = 240;
/// Objects of a page.
const PAGE: &str = "500";
/// Largest event.
const LINE: usize = 4 * 1024 * 1024;
/// Waits after failures.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether anybody watches.
const LOOK: Duration = Duration::from_secs(15);
/// How often it is noted that the state is still the newest.
const NOTE: Duration = Duration::from_secs(300);

/// Why a step of a view ended.
enum End {
    /// The API server does not remember what is after our revision.
    Expired,
    /// What is on the way to the API server cannot tell what is after it.
    Untold,
    /// The list has been taken away.
    Gone,
    Failed(Failure),
    Store(StoreError),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        match failure {
            Failure::Refused(status) if status.code == 410 => End::Expired,
            failure => End::Failed(failure),
        }
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> End {
        End::Store(error)
    }
}

fn unreadable(why: impl std::fmt::Display) -> End {
    End::Failed(Failure::Unreached(ask::Unreached::Silent(why.to_string())))
}

/// Runs a view until nobody watches it any more.
pub(super) async fn run(shared: Arc<Shared>, view: Arc<View>, before: Option<Arc<View>>) {
    if let Some(before) = before {
        before.done().cancelled().await;
    }
    let mut task = Task { shared: shared.clone(), view: view.clone(), list: 0, is_untold: false };
    let work = async {
        match task.begin().await {
            Ok(()) => task.keep_up().await,
            Err(status) => view.fail(status),
        }
    };
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = view.ending().cancelled() => {}
        () = unwatched(&shared, &view) => {}
        () = work => {}
    }
    view.end();
    // Writes are done in their order: when this is, so is what was broken off.
    task.note(view.is_in_step()).await;
    shared.ended(&view);
    view.done().cancel();
}

/// Resolves when nobody has watched for long enough.
async fn unwatched(shared: &Shared, view: &View) {
    loop {
        sleep(LOOK.min(shared.bounds.idle)).await;
        if !view.is_watched() && view.last_watched().elapsed() >= shared.bounds.idle {
            return;
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    view: Arc<View>,
    /// Its row.
    list: i64,
    /// What happened could not be told, and was not listed yet.
    is_untold: bool,
}

impl Task {
    /// Gets a first state.
    async fn begin(&mut self) -> Result<(), Status> {
        if *self.shared.upstream.connected().borrow() {
            let shared = self.shared.clone();
            let changing = shared.changing.lock().await;
            let known = self.shared.tables.known(self.view.scope()).await.map_err(|error| trouble(&error))?;
            let is_fresh = |seen: i64| (0..FRESH).contains(&(unix_seconds() - seen));
            if let Some(known) = known.filter(|known| is_fresh(known.seen)) {
                self.list = known.id;
                self.view.begin_at(known.revision);
                return Ok(());
            }
            drop(changing);
            match self.list(false).await {
                Ok(()) => return Ok(()),
                Err(End::Failed(Failure::Refused(status))) => return Err(status),
                Err(End::Store(error)) => return Err(trouble(&error)),
                Err(_) => {}
            }
        }
        let shared = self.shared.clone();
        let _changing = shared.changing.lock().await;
        let scope = self.view.scope();
        let known = shared.tables.known(scope).await.map_err(|error| trouble(&error))?;
        let known = match known {
            Some(known) => known,
            None => {
                let state = shared.state(self.view.query()).await.map_err(|error| trouble(&error))?;
                let State { known, items } = state.ok_or_else(|| unknown(scope))?;
                let kept = shared.tables.replace(scope, items, known.revision, known.seen).await;
                kept.map_err(|error| trouble(&error))?
            }
        };
        self.list = known.id;
        self.view.begin_at(known.revision);
        Ok(())
    }

    /// Lists, page by page. The state before stays until the last one is there. `tells`: whoever watches is told what differs, if it
    /// can be told; else he has to list as well.
    async fn list(&mut self, tells: bool) -> Result<(), End> {
        let id = self.shared.tables.begin(self.view.scope()).await?;
        let listed = self.pages(id).await;
        let revision = match listed {
            Ok(revision) => revision,
            Err(end) => {
                self.shared.tables.abandon(id).await?;
                return Err(end);
            }
        };
        let before = tells.then_some(self.list);
        let (known, differences) =
            self.shared.tables.finish(self.view.scope(), id, (revision, unix_seconds()), before).await?;
        self.list = known.id;
        self.view.set_in_step(true);
        let told =
            differences.and_then(|differences| log::differences(differences, self.view.reached(), revision));
        match told {
            Some(events) => {
                self.view.publish(events);
                self.view.bookmark(revision);
            }
            None => self.view.begin_at(revision),
        }
        self.shared.tell(self.view.scope());
        Ok(())
    }

    async fn pages(&mut self, id: i64) -> Result<i64, End> {
        let Shared { tables, upstream, bounds, .. } = &*self.shared;
        let scope = self.view.scope();
        let (mut continued, mut objects, mut bytes) = (String::new(), 0, 0);
        loop {
            let path = scope.path(&[("limit", PAGE), ("continue", &continued)]);
            let caller = self.view.caller().ok_or_else(nobody)?;
            let answer = ask::whole(&**upstream, Some(&caller), &path, "application/json").await;
            let page = answer.inspect_err(|failure| self.refused(&caller, failure))?;
            let page = object::list(&scope.resource, scope.group(), &page).map_err(unreadable)?;
            let (more_objects, more_bytes) = size(&page.items);
            (objects, bytes) = (objects + more_objects, bytes + more_bytes);
            if objects > bounds.objects_of_one || bytes > bounds.bytes_of_one {
                let text = format!(
                    "the list of {} is too large to be watched through this node: name a namespace or a selector",
                    scope.resource
                );
                return Err(Failure::Refused(Status::new(413, "RequestEntityTooLarge", text)).into());
            }
            tables.add(id, page.items).await?;
            if page.continued.is_empty() {
                return Ok(page.revision);
            }
            continued = page.continued;
        }
    }

    /// Who is refused is not asked as again.
    fn refused(&self, caller: &crate::caller::Caller, failure: &Failure) {
        if matches!(failure, Failure::Refused(status) if matches!(status.code, 401 | 403)) {
            self.view.refuse(caller);
        }
    }

    /// Follows the API server for as long as the view lives.
    async fn keep_up(&mut self) {
        let mut connected = self.shared.upstream.connected();
        let mut wait = FIRST_WAIT;
        loop {
            if connected.wait_for(|connected| *connected).await.is_err() {
                return std::future::pending().await;
            }
            let began = Instant::now();
            let end = if self.is_untold { Err(End::Untold) } else { self.watch().await };
            self.is_untold = matches!(end, Err(End::Untold));
            let end = match end {
                Err(End::Expired) => self.list(false).await,
                Err(End::Untold) => self.list(true).await,
                end => end,
            };
            self.is_untold &= end.is_err();
            if self.view.is_in_step() && end.is_err() {
                self.view.set_in_step(false);
                self.note(true).await;
            }
            match end {
                Ok(()) if began.elapsed() > FIRST_WAIT => {
                    wait = FIRST_WAIT;
                    continue;
                }
                Err(End::Gone) => return,
                // Another watcher may be asked as; without one, the view ends, and each hears for himself why.
                Err(End::Failed(Failure::Refused(status)))
                    if status.code == 404
                        || (matches!(status.code, 401 | 403) && self.view.caller().is_none()) =>
                {
                    return;
                }
                Err(End::Store(error)) => {
                    tracing::warn!(error = %daemon::errors::describe(&error), "a view cannot be stored");
                }
                _ => {}
            }
            tokio::select! {
                () = sleep(wait) => {}
                // The moment of a new session is the moment to ask.
                _ = connected.changed() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// One watch, from where the view is.
    async fn watch(&mut self) -> Result<(), End> {
        let revision = self.view.reached().to_string();
        let seconds = WATCH.as_secs().to_string();
        let path = self.view.scope().path(&[
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", &revision),
            ("timeoutSeconds", &seconds),
        ]);
        let caller = self.view.caller().ok_or_else(nobody)?;
        let answer = ask::stream(&*self.shared.upstream, &caller, &path).await;
        let mut body = answer.inspect_err(|failure| self.refused(&caller, failure))?.into_body();
        self.view.set_in_step(true);
        let until = Instant::now() + WATCH + SLACK;
        let (mut text, mut noted) = (BytesMut::new(), Instant::now());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let frame = match timeout(left, body.frame()).await {
                Ok(Some(frame)) => frame.map_err(unreadable)?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(unreadable("the watch did not end in time")),
            };
            let Ok(data) = frame.into_data() else { continue };
            text.extend_from_slice(&data);
            self.take(&mut text).await?;
            if text.len() > LINE {
                return Err(unreadable("an event is too large"));
            }
            if noted.elapsed() > NOTE {
                noted = Instant::now();
                self.note(true).await;
            }
        }
    }

    /// Commits and tells the whole lines of `text`, and leaves what has no end yet.
    async fn take(&mut self, text: &mut BytesMut) -> Result<(), End> {
        let (scope, mut reached) = (self.view.scope().clone(), self.view.reached());
        let mut changes = Vec::new();
        let mut end = None;
        while let Some(length) = text.iter().position(|byte| *byte == b'\n') {
            let line = text.split_to(length);
            text.advance(1);
            if line.is_empty() {
                continue;
            }
            let told = object::event(&scope.resource, scope.group(), &line).map_err(unreadable)?;
            match told {
                Told::Changed(stored) if stored.revision > reached => {
                    reached = stored.revision;
                    changes.push(Change::Put(stored));
                }
                Told::Deleted(stored) if stored.revision > reached => {
                    reached = stored.revision;
                    changes.push(Change::Remove(stored));
                }
                // It was told already.
                Told::Changed(_) | Told::Deleted(_) => {}
                Told::ListAgain => {
                    end = Some(End::Untold);
                    break;
                }
                Told::Bookmark(revision) => reached = reached.max(revision),
                Told::Failed(status) => {
                    end = Some(End::from(Failure::Refused(*status)));
                    break;
                }
            }
        }
        if !changes.is_empty() {
            let applied = self.shared.tables.apply(self.list, changes, reached, unix_seconds()).await?;
            let (changes, before) = applied.ok_or(End::Gone)?;
            let events = changes.iter().zip(&before);
            let events =
                events.filter_map(|(change, before)| log::event(change, before.as_deref())).collect();
            self.view.publish(events);
            self.shared.tell(&scope);
        }
        self.view.bookmark(reached);
        end.map_or(Ok(()), Err)
    }

    /// Notes up to where the state is known, and that it is the newest now.
    async fn note(&self, is_newest: bool) {
        let now = is_newest.then(unix_seconds);
        if let Err(error) = self.shared.tables.seen(self.list, self.view.reached(), now).await {
            tracing::debug!(error = %error, "noting the time of a view");
        }
    }
}

/// Every watcher's token has expired or was refused.
fn nobody() -> End {
    Failure::Refused(Status::unauthorized()).into()
}
