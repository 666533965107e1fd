//! What local programs reach this node through, MQTT and the mappers' socket, is served on a thread of its own with less
//! priority: however they behave, the link and the pods are not kept waiting.

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How much nicer than the rest the thread is.
const NICE: i32 = 5;

/// The thread; it ends when this is dropped.
pub(crate) struct Doors {
    handle: Handle,
    _end: DropGuard,
}

impl Doors {
    pub(crate) fn build() -> std::io::Result<Doors> {
        let runtime = Builder::new_current_thread().thread_name("doors").enable_all().build()?;
        let handle = runtime.handle().clone();
        let end = CancellationToken::new();
        let ended = end.clone();
        std::thread::Builder::new().name("doors".to_owned()).spawn(move || {
            daemon::priority::patient(NICE);
            runtime.block_on(ended.cancelled());
            runtime.shutdown_background();
        })?;
        Ok(Doors { handle, _end: end.drop_guard() })
    }

    /// Where listeners are bound and served.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_served_there_keeps_nobody_else_waiting() {
        let doors = Doors::build().unwrap();
        let thread = || std::thread::current().name().map(str::to_owned);
        let served = doors.handle().spawn(async move { thread() }).await.unwrap();
        assert_eq!(served.as_deref(), Some("doors"));
        let served = doors.handle().spawn(std::future::pending::<()>());
        drop(doors);
        assert!(served.await.unwrap_err().is_cancelled(), "nothing is served any longer");
    }
}
