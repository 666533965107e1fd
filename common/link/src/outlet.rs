//! Writing beside reading: a session that waited for its own writes would stop reading, and two ends that both wait
//! for the other to read would stand still until a deadline.

use std::future::Future;
use std::pin::Pin;

use crate::{CloseReason, SendError, SendHalf};

type Writing<S> = Pin<Box<dyn Future<Output = (S, Result<(), SendError>)> + Send>>;

/// A sender that writes one thing at a time while its owner does something else.
pub struct Outlet<S> {
    state: State<S>,
}

enum State<S> {
    Idle(S),
    Busy(Writing<S>),
    /// A write failed.
    Ended,
}

impl<S: SendHalf> Outlet<S> {
    pub fn new(sender: S) -> Outlet<S> {
        Outlet { state: State::Idle(sender) }
    }

    /// True if something can be written now.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle(_))
    }

    /// Waits for the running write; for ever if there is none. Cancel safe.
    ///
    /// # Errors
    /// [`SendError`] of the write that was running.
    pub async fn finished(&mut self) -> Result<(), SendError> {
        match &mut self.state {
            State::Busy(writing) => {
                let (sender, result) = writing.await;
                self.state = if result.is_ok() { State::Idle(sender) } else { State::Ended };
                result
            }
            _ => std::future::pending().await,
        }
    }

    /// Starts writing. Call when idle.
    pub fn send(&mut self, item: S::Item) {
        self.begin(|mut sender| {
            Box::pin(async move {
                let result = sender.send_item(item).await;
                (sender, result)
            })
        });
    }

    /// Starts asking for a sign of life. Call when idle.
    pub fn ping(&mut self) {
        self.begin(|mut sender| {
            Box::pin(async move {
                let result = sender.send_ping().await;
                (sender, result)
            })
        });
    }

    /// Says why and closes, unless a write is stuck.
    pub async fn close(self, reason: CloseReason) {
        if let State::Idle(sender) = self.state {
            sender.say_goodbye(reason).await;
        }
    }

    fn begin(&mut self, write: impl FnOnce(S) -> Writing<S>) {
        if let State::Idle(sender) = std::mem::replace(&mut self.state, State::Ended) {
            self.state = State::Busy(write(sender));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use native::frames::Welcome;
    use native::frames::frame::Body;

    #[tokio::test]
    async fn a_write_goes_on_while_its_owner_waits_for_something_else() {
        let ((sender, _receiver), (_edge, mut edge)) = crate::memory::native_pair().await;
        let mut outlet = Outlet::new(sender);
        outlet.send(Body::Welcome(Welcome { epoch: 3, takes_streams: false }));
        assert!(!outlet.is_idle());
        tokio::select! {
            result = outlet.finished() => result.unwrap(),
            _ = std::future::pending::<()>() => {}
        }
        assert!(outlet.is_idle());
        assert!(edge.next().await.is_ok());
    }
}
