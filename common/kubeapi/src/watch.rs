//! One watch: initial state or the log first, then live events; a watch that falls behind reads the log again.
//!
//! ```text
//!  start -- resourceVersion given --> Replaying --caught up--> Live --lagged--> Replaying
//!    '----- no version, or 0 -------> (synthetic ADDED) -------^                    '-- too old --> ERROR 410, end
//! ```
//! It is a stream polled by the connection, so a slow client is slowed by its own socket and holds a bounded queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use apimachinery::listing::Start;
use apimachinery::traits::Traits;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::call::Call;
use crate::lens::Sight;
use crate::render::Renderer;
use crate::respond::{Body, BodyError};
use crate::stored::{Event, EventKind, ListQuery, Replay, Stored, Subscription};

pub(crate) struct Options {
    pub start: Start,
    pub bookmarks: bool,
    pub timeout: Duration,
}

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Watch<B> {
    backend: Arc<B>,
    scope: ListQuery,
    renderer: Renderer,
    live: Subscription,
    /// `None`: objects are shown as they are.
    sight: Option<Sight>,
    /// Everything up to this revision was sent or does not concern this watch.
    reached: i64,
    replaying: bool,
    ended: bool,
    first: bool,
    queue: VecDeque<Bytes>,
    bookmarks: bool,
    bookmarked: i64,
    next_bookmark: Instant,
    deadline: Instant,
}

impl<B: Backend> Watch<B> {
    pub(crate) async fn open(
        call: &Call<'_, B>,
        scope: ListQuery,
        options: Options,
    ) -> Result<Watch<B>, Status> {
        let (reader, renderer) = (call.reader(), call.renderer()?);
        // Before the snapshot, so that nothing falls between the two.
        let mut live = call.backend.subscribe(reader, &scope).await?;
        // Only who is told everything knows nothing more.
        let resumes = !matches!(options.start, Start::Everything { .. });
        let sight = live.lens.take().map(|lens| Sight::new(lens, resumes));
        let mut watch = Watch {
            backend: call.backend.clone(),
            scope,
            renderer,
            live,
            sight,
            reached: 0,
            replaying: false,
            ended: false,
            first: true,
            queue: VecDeque::new(),
            bookmarks: options.bookmarks,
            bookmarked: 0,
            next_bookmark: Instant::now() + BOOKMARK_EVERY,
            deadline: Instant::now() + options.timeout,
        };
        match options.start {
            Start::After(revision) => {
                watch.reached = revision;
                watch.replaying = true;
            }
            Start::Now => watch.reached = watch.backend.revision(reader, &watch.scope).await?,
            Start::Everything { mark_end } => {
                let query = ListQuery { begins_watch: true, ..watch.scope.clone() };
                let page = watch.backend.list(reader, query).await?;
                watch.reached = page.revision;
                watch.sight.iter_mut().for_each(|sight| sight.listed(&page.items));
                page.items.iter().for_each(|item| watch.send(EventKind::Added, item));
                if mark_end {
                    watch.bookmark(true);
                }
            }
        }
        Ok(watch)
    }

    pub(crate) fn content_type(&self) -> &'static str {
        self.renderer.stream_type()
    }

    pub(crate) fn into_body(self) -> Body {
        let chunks = stream::unfold(self, |mut watch| async move {
            let chunk = watch.next().await?;
            Some((Ok::<_, BodyError>(Frame::data(chunk)), watch))
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.queue.pop_front() {
                return Some(chunk);
            }
            if self.ended {
                return None;
            }
            if self.replaying {
                self.replay().await;
            } else {
                self.receive().await;
            }
        }
    }

    async fn replay(&mut self) {
        match self.backend.replay(&self.scope, self.reached).await {
            Ok(Replay::Events(events, reached)) => {
                for event in &events {
                    self.take(event).await;
                }
                // A full read ends before the current revision; the next one then finds the rest.
                self.replaying = !events.is_empty() && self.reached < reached;
                self.reached = self.reached.max(reached);
                if !self.replaying && self.sight.as_ref().is_some_and(Sight::is_in_doubt) {
                    self.look_again().await;
                }
            }
            Ok(Replay::Expired(current)) => {
                let message = format!("too old resource version: {} ({current})", self.reached);
                self.fail(&Status::expired(message));
            }
            Err(status) => self.fail(&status),
        }
    }

    async fn receive(&mut self) {
        let bookmark_due = async {
            match self.bookmarks {
                true => tokio::time::sleep_until(self.next_bookmark).await,
                false => std::future::pending().await,
            }
        };
        let looks_different = async {
            match &mut self.sight {
                Some(sight) => sight.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.backend.stop().cancelled() => self.ended = true,
            received = self.live.events.recv() => match received {
                Ok(event) => self.take(&event).await,
                Err(RecvError::Lagged(_)) => self.replaying = true,
                Err(RecvError::Closed) => self.ended = true,
            },
            () = looks_different => self.look_again().await,
            () = tokio::time::sleep_until(self.deadline) => {
                if self.bookmarks {
                    self.catch_up();
                    self.bookmark(false);
                }
                self.ended = true;
            }
            () = bookmark_due => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.catch_up();
                if self.reached > self.bookmarked {
                    self.bookmark(false);
                }
            }
        }
    }

    /// Tells what the client sees differently though it has not changed.
    async fn look_again(&mut self) {
        let Some(sight) = &mut self.sight else { return };
        match sight.again().await {
            Ok(told) => told.iter().for_each(|(kind, stored)| self.send(*kind, stored)),
            Err(status) => self.fail(&status),
        }
    }

    /// Moves over revisions of other resources, so that a quiet watch does not grow too old to be resumed.
    fn catch_up(&mut self) {
        let announced = self.backend.announced(&self.scope);
        if self.live.events.is_empty() {
            self.reached = self.reached.max(announced);
        }
    }

    /// Sends what an event means to this watch's selectors, unless it was sent already.
    async fn take(&mut self, event: &Event) {
        if event.stored.revision <= self.reached {
            return;
        }
        self.reached = event.stored.revision;
        let key = &event.stored.key;
        if self.scope.namespace.as_ref().is_some_and(|namespace| *namespace != key.namespace) {
            return;
        }
        let selects = |traits: &Traits| traits.match_selectors(&self.scope.labels, &self.scope.fields);
        let (before, now) = match Traits::are_enough(&self.scope.resource, &self.scope.fields) {
            true => (event.previous.as_ref().is_some_and(selects), selects(&event.traits)),
            false => match self.selected(event).await {
                Ok(selected) => selected,
                Err(status) => return self.fail(&status),
            },
        };
        let now = event.kind != EventKind::Deleted && now;
        if let Some(sight) = &mut self.sight {
            if let Some((kind, shown)) = sight.take(&event.stored, before, now) {
                self.send(kind, &shown);
            }
            return;
        }
        match (before, now) {
            (false, true) => self.tell(EventKind::Added, &event.stored).await,
            (true, true) => self.tell(EventKind::Modified, &event.stored).await,
            (true, false) if event.kind == EventKind::Deleted => {
                self.tell(EventKind::Deleted, &event.stored).await;
            }
            // It is not chosen any more: as it was when it was, as upstream tells it.
            (true, false) => match self.backend.before(event).await {
                Ok(before) => self.tell(EventKind::Deleted, before.as_ref().unwrap_or(&event.stored)).await,
                Err(status) => self.fail(&status),
            },
            (false, false) => {}
        }
    }

    /// [`Watch::send`] of what is in the stored form.
    async fn tell(&mut self, kind: EventKind, stored: &Stored) {
        match self.backend.shown(&self.scope, stored).await {
            Ok(shown) => self.send(kind, shown.as_ref().unwrap_or(stored)),
            Err(status) => self.fail(&status),
        }
    }

    /// Whether an object was and is chosen, by fields that are read of the object itself.
    async fn selected(&mut self, event: &Event) -> Result<(bool, bool), Status> {
        let now = self.scope.selects(&event.stored);
        let before = match (event.kind, &event.previous) {
            (_, None) => false,
            // As it was last.
            (EventKind::Deleted, _) => now,
            _ => self.backend.before(event).await?.is_some_and(|before| self.scope.selects(&before)),
        };
        Ok((before, now))
    }

    fn send(&mut self, kind: EventKind, stored: &Stored) {
        match self.renderer.event(kind.as_str(), stored, self.first) {
            Ok(event) => {
                self.queue.push_back(event);
                self.first = false;
            }
            Err(status) => self.fail(&status),
        }
    }

    fn bookmark(&mut self, initial_end: bool) {
        let object = self.renderer.bookmark(self.reached, initial_end);
        self.queue.push_back(self.renderer.event_of("BOOKMARK", &object));
        self.bookmarked = self.reached;
    }

    fn fail(&mut self, status: &Status) {
        self.queue.push_back(self.renderer.event_of("ERROR", &status.to_json()));
        self.ended = true;
    }
}
