//! The body of a watch: lines of events from what the cloud pushes, until whoever follows has to list.

use std::convert::Infallible;
use std::time::Duration;

use apimachinery::Status;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use metamanager::LinkState;
use metaserver::upstream::LIST_AGAIN;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Body;
use super::feed::{Feed, Heard};
use super::watches::{Reading, Receiver, Watches};

/// Nothing comes for this long: what is held back is told. The cloud sends the next object as soon as one is acknowledged.
const QUIET: Duration = Duration::from_millis(200);
/// Longest that an event is held back.
const LONGEST: Duration = Duration::from_secs(5);
/// Lists in a watch that is pushed, which find what the cloud has lost.
pub(super) const LIST: Duration = Duration::from_secs(240);
/// Lists where nothing is pushed.
const LIST_ONLY: Duration = Duration::from_secs(60);
/// Soonest that a doubt is answered by a list.
pub(super) const DOUBT: Duration = Duration::from_secs(10);
/// Parts of the body that may wait.
const PARTS: usize = 4;

/// A watch that is being told.
pub(super) struct Telling {
    pub feed: Feed,
    pub link: watch::Receiver<LinkState>,
    /// It ends after this.
    pub lasts: Duration,
    pub watches: Watches,
}

impl Telling {
    /// What is pushed, and, if the cloud was told, the place of the reader and whether he lists first.
    pub(super) fn into_body(self, pushes: Receiver, joined: Option<(Reading, bool)>) -> Body {
        let (parts, body) = mpsc::channel(PARTS);
        tokio::spawn(async move {
            let told = parts.clone();
            tokio::select! {
                () = parts.closed() => {}
                () = self.tell(pushes, joined, told) => {}
            }
        });
        let frames = stream::unfold(body, |mut body| async move {
            let part: String = body.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(part))), body))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn tell(
        mut self,
        mut pushes: Receiver,
        joined: Option<(Reading, bool)>,
        parts: mpsc::Sender<String>,
    ) {
        let every = if joined.is_some() { LIST } else { LIST_ONLY };
        // The reader leaves when this ends.
        let (reading, is_new) = joined.map_or((None, false), |(reading, is_new)| (Some(reading), is_new));
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
                () = sleep_until(began + self.lasts) => {
                    let _ = parts.send(self.feed.lines()).await;
                    return;
                }
                () = sleep_until(list_at) => {
                    reading.into_iter().for_each(|reading| reading.keep(pushes.resubscribe()));
                    let _ = parts.send(self.feed.lines() + &line(LIST_AGAIN, &json!({}))).await;
                    return;
                }
                pushed = pushes.recv() => {
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
