//! Decoding of messages: small ones at once, large ones on threads of low priority, where they keep no other session
//! waiting.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Bytes from which decoding may take a millisecond.
const LARGE: usize = 64 * 1024;
/// How much nicer than the sessions the decoding threads are.
const NICE: i32 = 10;

/// Made with the first large message; its threads come with work and go when there is none. `None` if the system has
/// none to give.
static DECODERS: OnceLock<Option<Runtime>> = OnceLock::new();

fn decoders() -> Option<&'static Runtime> {
    let build = || {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        // Only for its threads for blocking work: nothing is polled here.
        Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_name("decoders")
            .on_thread_start(|| daemon::priority::patient(NICE))
            .build()
            .ok()
    };
    DECODERS.get_or_init(build).as_ref()
}

/// A decoding that goes on elsewhere. Dropped before it began, it never does: a session that ended queues nothing.
pub(crate) struct Large<T>(AbortOnDropHandle<T>);

impl<T: Send + 'static> Large<T> {
    /// Begins to decode a message of so many bytes; a small one is decoded at once.
    pub(crate) fn begin(bytes: usize, decode: impl FnOnce() -> T + Send + 'static) -> Result<Large<T>, T> {
        if bytes < LARGE {
            return Err(decode());
        }
        Ok(Large(AbortOnDropHandle::new(match decoders() {
            Some(decoders) => decoders.spawn_blocking(decode),
            None => tokio::task::spawn_blocking(decode),
        })))
    }

    /// What came of it; once. Cancel safe. `None` only while the process ends.
    pub(crate) async fn result(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_messages_are_decoded_on_another_thread_even_if_the_wait_is_given_up() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert!(matches!(Large::begin(LARGE - 1, thread), Err(decoded) if decoded == here));
        let Ok(mut large) = Large::begin(LARGE, thread) else { panic!("decoded here") };
        tokio::select! {
            biased;
            _ = std::future::ready(()) => {}
            _ = large.result() => {}
        }
        assert!(large.result().await.unwrap() != here);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_decoded() {
        use std::sync::mpsc;
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let mut busy = Vec::new();
        for _ in 0..threads {
            let ((begun, has_begun), (go, may_go)) = (mpsc::channel(), mpsc::channel::<()>());
            let work = move || (begun.send(()).is_ok(), may_go.recv().is_ok());
            let Ok(large) = Large::begin(LARGE, work) else { panic!("decoded here") };
            has_begun.recv().unwrap();
            busy.push((large, go));
        }
        let (decoded, was_decoded) = mpsc::channel();
        drop(Large::begin(LARGE, move || decoded.send(())));
        for (mut large, go) in busy {
            go.send(()).unwrap();
            large.result().await.unwrap();
        }
        // The sender goes without having sent.
        assert_eq!(was_decoded.recv(), Err(mpsc::RecvError));
    }
}
