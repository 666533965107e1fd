//! Tasks of rooms.

use std::pin::Pin;

use tokio::task::JoinHandle;

/// [`tokio::spawn`] of a task without a result, boxed: what tokio makes of a task is compiled once and not for each of them,
/// which makes programs smaller and a build after a change shorter.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    launch(Box::pin(task))
}

fn launch(task: Pin<Box<dyn Future<Output = ()> + Send>>) -> JoinHandle<()> {
    tokio::spawn(task)
}
