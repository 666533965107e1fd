//! The body of a watch: lines of events from what the cloud pushes, until whoever follows has to list.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use metamanager::LinkState;
use metamanager::pushes::Pushed;
use metaserver::upstream::LIST_AGAIN;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Body;
use super::feed::{Feed, Heard};
use super::watches::{Joined, Reading, Watches};

/// Nothing comes for this long: what is held back is told. The cloud sends the next object as soon as one is acknowledged.
const QUIET: Duration = Duration::from_millis(200);
/// Longest that an event is held back.
const LONGEST: Duration = Duration::from_secs(5);
/// Lists in a watch that is pushed, which find what the cloud has lost.
const LIST: Duration = Duration::from_secs(240);
/// Lists where nothing is pushed.
const LIST_ONLY: Duration = Duration::from_secs(60);
/// Soonest that a doubt is answered by a list.
const DOUBT: Duration = Duration::from_secs(10);
/// Parts of the body that may wait.
const PARTS: usize = 4;

/// A watch that is being told.
pub(super) struct Telling {
    pub feed: Feed,
    pub pushes: broadcast::Receiver<Arc<Pushed>>,
    pub link: watch::Receiver<LinkState>,
    pub watches: Watches,
}

impl Telling {
    /// `joined`: what the cloud was told; `None`: it pushes nothing of it.
    pub(super) fn into_body(self, joined: Option<Joined>) -> Body {
        let (parts, body) = mpsc::channel(PARTS);
        tokio::spawn(async move {
            let told = parts.clone();
            tokio::select! {
                () = parts.closed() => {}
                () = self.tell(joined, told) => {}
            }
        });
        let frames = stream::unfold(body, |mut body| async move {
            let part: String = body.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(part))), body))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn tell(mut self, joined: Option<Joined>, parts: mpsc::Sender<String>) {
        let (every, is_new) = joined.as_ref().map_or((LIST_ONLY, false), |joined| (LIST, joined.is_new));
        // Left when this ends.
        let _reading: Option<Reading> = joined.map(|joined| joined.reading);
        let began = Instant::now();
        // What happened before it was begun is found by a list.
        let mut list_at = if is_new { began } else { began + every };
        // When the first and the last event came of those that are held back.
        let mut held: Option<(Instant, Instant)> = None;
        loop {
            let tell_at = held.map(|(first, last)| (last + QUIET).min(first + LONGEST));
            tokio::select! {
                biased;
                // What was sent in between is lost.
                _ = self.link.changed() => {
                    self.watches.unsettle();
                    let why = Status::unavailable("the link to the cloud has changed").to_json();
                    let _ = parts.send(line("ERROR", &why)).await;
                    return;
                }
                () = sleep_until(tell_at.unwrap_or(began)), if tell_at.is_some() => {
                    held = None;
                    if parts.send(self.feed.lines()).await.is_err() {
                        return;
                    }
                }
                () = sleep_until(list_at) => {
                    let _ = parts.send(self.feed.lines() + &line(LIST_AGAIN, &json!({}))).await;
                    return;
                }
                pushed = self.pushes.recv() => {
                    let now = Instant::now();
                    let heard = match pushed {
                        Ok(pushed) => self.feed.take(&pushed),
                        Err(RecvError::Lagged(_)) => Heard::Doubt,
                        Err(RecvError::Closed) => return,
                    };
                    match heard {
                        Heard::Nothing => {}
                        Heard::Held => held = Some((held.map_or(now, |(first, _)| first), now)),
                        Heard::Doubt => list_at = list_at.min(began + DOUBT),
                    }
                }
            }
        }
    }
}

/// One event.
pub(super) fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}
