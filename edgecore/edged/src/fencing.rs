//! Pods that must not run twice: one may say how long it goes on without the cloud. Then the cloud may have given its work to
//! another node, so this one stops it until the link is back.
//!
//! ```text
//! link down --longest offline time of a pod--> held --link up for a while--> it goes on, unless the cloud took it away
//! ```
//!
//! When the link went down is on disk: a restart of EdgeCore does not begin the time anew.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::duration::go_seconds;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use metamanager::LinkState;
use nodebase::base::Base;
use nodebase::events::Kind;
use podmodel::errors::chain;
use podmodel::stop_decision::{Disposition, StopDecision};

/// Annotation of a pod: a duration as Go writes it.
const MOST: &str = "causeway.io/longest-offline";
const REASON: &str = "NodeOffline";
/// How often pods are looked at while the link is down.
const LOOK: Duration = Duration::from_secs(2);
/// The cloud says within it what it has taken away meanwhile.
const SETTLED: Duration = Duration::from_secs(15);
/// Row of this node's own that says since when the link is down.
const KIND: &str = "offline";
const PATH: &str = "offline/link";
const UID: &str = "link";

pub(crate) async fn run(base: Arc<Base>, stop: CancellationToken) {
    let mut link = base.link.clone();
    loop {
        let is_up = *link.borrow_and_update() == LinkState::Connected;
        let turn = async {
            match is_up {
                true => up(&base).await,
                false => down(&base).await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            () = changed(&mut link) => {}
            () = turn => {}
        }
    }
}

/// Returns when the link is up or down anew; never where nobody tells of it any more.
async fn changed(link: &mut watch::Receiver<LinkState>) {
    if link.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Lets go on what was held, once the cloud has had time to say what is not wanted any more. Never returns.
async fn up(base: &Base) {
    if let Err(error) = base.objects.delete_local(KIND, UID.to_owned()).await {
        tracing::warn!(error = %chain(&error), "not noted that the link is up");
    }
    tokio::time::sleep(SETTLED).await;
    for entry in base.board.entries() {
        entry.decision.send_if_modified(|decision| {
            let is_ours = decision.as_ref().is_some_and(|decision| {
                decision.disposition == Disposition::Hold && decision.reason == REASON
            });
            if is_ours {
                *decision = None;
            }
            is_ours
        });
    }
    std::future::pending().await
}

/// Holds each pod whose time is over. Never returns.
async fn down(base: &Base) {
    let since = since(base).await;
    loop {
        let now = base.clock.now();
        for entry in base.board.entries() {
            let Some(most) = longest(entry.object.text()) else { continue };
            let is_over =
                now.duration_since(since).as_secs() >= i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
            if !is_over || !entry.is_active() || entry.is_leaving {
                continue;
            }
            let held = entry.decision.send_if_modified(|decision| {
                let is_free = decision.is_none();
                if is_free {
                    *decision = Some(StopDecision {
                        disposition: Disposition::Hold,
                        reason: REASON.to_owned(),
                        message: format!("The node has no link to the cloud since {since}, longer than this pod may run alone"),
                        grace: None,
                        disrupted: false,
                    });
                }
                is_free
            });
            if held {
                let (namespace, name) = (&entry.id.namespace, &entry.id.name);
                tracing::warn!(%namespace, %name, "pod held: the link is down for longer than it may run alone");
                let text = format!("Stopping: no link to the cloud since {since}, and {MOST} is over");
                base.events.record(&entry.id, None, Kind::Warning, REASON, &text);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Since when the link is down: as noted before, or from now on.
async fn since(base: &Base) -> Timestamp {
    let now = base.clock.now();
    let noted = base.objects.get_local(PATH.to_owned()).await.ok().flatten();
    let noted = noted.and_then(|text| serde_json::from_str::<Timestamp>(&text).ok());
    if let Some(noted) = noted.filter(|noted| *noted <= now) {
        return noted;
    }
    let text = serde_json::Value::from(now.to_string()).to_string();
    if let Err(error) = base.objects.put_local(PATH.to_owned(), KIND, UID.to_owned(), text).await {
        tracing::warn!(error = %chain(&error), "not noted since when the link is down: a restart begins the time anew");
    }
    now
}

/// How long the pod of this text may run without the cloud. `None`: as long as it likes.
fn longest(pod: &str) -> Option<Duration> {
    if !pod.contains(MOST) {
        return None;
    }
    let pod: serde_json::Value = serde_json::from_str(pod).ok()?;
    let text = pod["metadata"]["annotations"][MOST].as_str()?;
    match go_seconds(text).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(longest) => Some(longest),
        None => {
            tracing::debug!(text, key = MOST, "not a duration such as 10m: the pod runs on");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_how_long_it_runs_alone() {
        let pod = |text: &str| serde_json::json!({"metadata": {"annotations": {MOST: text}}}).to_string();
        assert_eq!(longest(&pod("1h30m")), Some(Duration::from_secs(5400)));
        assert_eq!(longest(&pod("0s")), Some(Duration::ZERO));
        assert_eq!(longest(&pod("soon")), None);
        assert_eq!(longest(r#"{"metadata": {}}"#), None);
    }
}
