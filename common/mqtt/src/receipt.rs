//! What a receiver of messages owes their sender: word that a message is dealt with. Only then is the sender told.
//!
//! ```text
//! Delivery { publish, receipt } --complete()--> the client gets its PUBACK or PUBREC
//!                               --dropped-----> it gets none, its connection ends, and it sends again
//! ```

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::Publish;

/// A message for this process, and the receipt its sender waits for.
#[derive(Debug)]
pub struct Delivery {
    pub publish: Publish,
    pub receipt: Receipt,
}

impl Delivery {
    /// The message, with its receipt completed: for receivers that keep nothing.
    pub fn accept(self) -> Publish {
        self.receipt.complete();
        self.publish
    }
}

impl Deref for Delivery {
    type Target = Publish;

    fn deref(&self) -> &Publish {
        &self.publish
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Completed,
    /// A receiver gave the message up.
    Lost,
}

#[derive(Debug)]
struct Shared {
    /// Receipts that are neither completed nor dropped.
    open: AtomicUsize,
    outcome: watch::Sender<Outcome>,
    /// What the message takes of its sender's and everybody's allowance until then.
    _space: Vec<OwnedSemaphorePermit>,
}

/// Owed for one message. Complete it once what the message caused is durable; dropping it says that it was lost.
#[derive(Debug)]
#[must_use = "a receipt that is dropped says that its message was lost"]
pub struct Receipt {
    shared: Arc<Shared>,
    completed: bool,
}

impl Receipt {
    /// `space` is given back with the last receipt of the message.
    pub(crate) fn new(space: Vec<OwnedSemaphorePermit>) -> Receipt {
        let (outcome, _) = watch::channel(Outcome::Open);
        Receipt {
            shared: Arc::new(Shared { open: AtomicUsize::new(1), outcome, _space: space }),
            completed: false,
        }
    }

    /// A receipt nobody waits for.
    pub fn unwatched() -> Receipt {
        Receipt::new(Vec::new())
    }

    /// A receipt, and what its sender sees of it.
    pub fn watched() -> (Receipt, Outlook) {
        let receipt = Receipt::unwatched();
        let outlook = receipt.watch();
        (receipt, outlook)
    }

    /// One more receiver of the same message: all of them must complete.
    pub(crate) fn split(&self) -> Receipt {
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        Receipt { shared: self.shared.clone(), completed: false }
    }

    pub(crate) fn watch(&self) -> Outlook {
        Outlook(self.shared.outcome.subscribe())
    }

    /// The message is dealt with: what it caused is durable, or it caused nothing.
    pub fn complete(mut self) {
        self.completed = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.completed {
            self.shared.outcome.send_replace(Outcome::Lost);
        }
        if self.shared.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.outcome.send_if_modified(|outcome| {
                let all = *outcome == Outcome::Open;
                if all {
                    *outcome = Outcome::Completed;
                }
                all
            });
        }
    }
}

/// The sender's view of a receipt.
#[derive(Clone, Debug)]
pub struct Outlook(watch::Receiver<Outcome>);

impl Outlook {
    pub(crate) fn is_lost(&self) -> bool {
        *self.0.borrow() == Outcome::Lost
    }

    /// True once every receiver completed; false once one gave the message up.
    pub async fn completed(&mut self) -> bool {
        let outcome = self.0.wait_for(|outcome| *outcome != Outcome::Open).await;
        outcome.is_ok_and(|outcome| *outcome == Outcome::Completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_dealt_with_once_every_receiver_completed() {
        let first = Receipt::unwatched();
        let mut outlook = first.watch();
        let second = first.split();
        first.complete();
        tokio::select! {
            biased;
            _ = outlook.completed() => panic!("one receiver is not done"),
            _ = tokio::task::yield_now() => {}
        }
        second.complete();
        assert!(outlook.completed().await);
    }

    #[tokio::test]
    async fn a_message_one_receiver_gave_up_is_lost() {
        let first = Receipt::unwatched();
        let mut outlook = first.watch();
        drop(first.split());
        first.complete();
        assert!(!outlook.completed().await && outlook.is_lost());
    }
}
