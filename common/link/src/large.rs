//! Decoding of messages: small ones at once, large ones on a thread of their own, where they keep no other session waiting.

use tokio::task::JoinHandle;

/// Bytes from which decoding takes milliseconds.
const LARGE: usize = 256 * 1024;

/// A decoding that has ended or goes on elsewhere.
pub(crate) enum Large<T, E> {
    Here(Option<Result<T, E>>),
    Elsewhere(JoinHandle<Result<T, E>>),
}

impl<T: Send + 'static, E: Send + 'static> Large<T, E> {
    /// Decodes, or begins to.
    pub fn decode(bytes: usize, decode: impl FnOnce() -> Result<T, E> + Send + 'static) -> Large<T, E> {
        match bytes < LARGE {
            true => Large::Here(Some(decode())),
            false => Large::Elsewhere(tokio::task::spawn_blocking(decode)),
        }
    }

    /// What came of it; once. Cancel safe. `None` only while the process ends.
    pub async fn result(&mut self) -> Option<Result<T, E>> {
        match self {
            Large::Here(result) => result.take(),
            Large::Elsewhere(task) => task.await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_messages_are_decoded_on_another_thread_even_if_the_wait_is_given_up() {
        let here = std::thread::current().id();
        let thread = move || Ok::<_, ()>(std::thread::current().id());
        assert_eq!(Large::decode(LARGE - 1, thread).result().await, Some(Ok(here)));
        let mut large = Large::decode(LARGE, thread);
        tokio::select! {
            biased;
            _ = std::future::ready(()) => {}
            _ = large.result() => {}
        }
        assert!(large.result().await.unwrap().unwrap() != here);
    }
}
