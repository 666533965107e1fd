//! Whether EdgeCore's rooms move, with the kubelet's paths (docs/protocol/edge-runtime.md 7.1) and those of CloudCore's monitor.

use http::StatusCode;

use super::answer::{self, Answer};
use super::router::Health;

/// The loop over the pods, as its room is called.
const SYNC_LOOP: &str = "edged";

pub fn answer(what: Health, query: Option<&str>, rooms: &daemon::health::Health) -> Answer {
    let path = match what {
        Health::All => "/healthz",
        Health::Ready => "/readyz",
        Health::SyncLoop if rooms.stuck().contains(&SYNC_LOOP) => {
            return answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the loop over the pods does not turn");
        }
        Health::Ping | Health::Log | Health::SyncLoop => return answer::plain("ok"),
    };
    match daemon::monitor::probe(path, query, rooms) {
        Some((StatusCode::OK, text)) if query.is_none() => answer::plain(text.trim_end().to_owned()),
        Some((status, text)) => answer::text(status, text.trim_end()),
        None => answer::text(StatusCode::NOT_FOUND, "no such probe"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::health::STUCK_AFTER;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_fails_its_check_and_no_other() {
        let rooms = daemon::health::Health::default();
        let beat = rooms.beat(SYNC_LOOP);
        let status = |what| answer(what, None, &rooms).status();
        let busy = beat.begin();
        tokio::time::advance(STUCK_AFTER).await;
        assert_eq!(status(Health::SyncLoop), StatusCode::OK);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(status(Health::SyncLoop), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!status(Health::All).is_success());
        assert_eq!(status(Health::Ping), StatusCode::OK);
        assert_eq!(status(Health::Ready), StatusCode::OK);
        drop(busy);
        assert_eq!(status(Health::All), StatusCode::OK);
    }
}
