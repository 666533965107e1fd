//! File work away from the threads that wait: a slow disk holds up who asked, and nobody else.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

/// Runs `work` on a thread for it.
///
/// # Errors
/// Those of `work`; `Other` if it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let result = Arc::new(Mutex::new(None));
    let into = result.clone();
    let put = move || *into.lock().unwrap_or_else(PoisonError::into_inner) = Some(work());
    launch(Box::new(put)).await.map_err(io::Error::other)?;
    let done = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    done.unwrap_or_else(|| Err(io::Error::other("work on a thread for files left no result")))
}

/// Boxed, so that what tokio makes of a task is compiled once and not for each piece of work.
fn launch(work: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    tokio::task::spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_result_comes_back_and_a_panic_is_an_error() {
        assert_eq!(blocking(|| Ok(7)).await.unwrap(), 7);
        let refused = blocking(|| Err::<(), _>(io::ErrorKind::NotFound.into())).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        let panicked = blocking(|| -> io::Result<()> { panic!("a fault of a test") }).await.unwrap_err();
        assert_eq!(panicked.kind(), io::ErrorKind::Other);
    }
}
