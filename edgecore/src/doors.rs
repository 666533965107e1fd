//! What local programs reach this node through, MQTT and the mappers' socket, is served on a thread of its own with less
//! priority: however they behave, the link and the pods are not kept waiting.

use tokio::runtime::{Builder, Handle, Runtime};

/// How much nicer than the rest the thread is.
const NICE: i32 = 5;

/// The thread; it ends when this is dropped.
pub struct Doors {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Doors {
    pub fn build() -> std::io::Result<Doors> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("doors")
            .on_thread_start(|| {
                // Less priority is a courtesy: without it everything works as well.
                let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            })
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Doors { runtime: Some(runtime), handle })
    }

    /// Where listeners are bound and served.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        // A runtime may not be dropped where it would block another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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
        // It is dropped where a runtime may not be.
    }
}
