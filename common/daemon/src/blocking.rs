//! File work away from the threads that wait: a slow disk holds up who asked, and nobody else.

use std::io;

/// Runs `work` on a thread for it.
///
/// # Errors
/// Those of `work`; `Other` if it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
