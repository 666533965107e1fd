//! What a worker is told: the newest order, and when to look again.

use std::sync::atomic::{AtomicBool, Ordering};

use message::Json;
use tokio::sync::Notify;

/// The newest word about a pod. It only moves towards `Gone`.
#[derive(Clone, Debug)]
pub enum Order {
    /// Follow this pod object (which may say that it is being deleted).
    Run(Json),
    /// The store does not have it: stop it and forget it.
    Gone,
}

impl Order {
    pub fn replace(&mut self, object: Json) {
        if let Order::Run(current) = self {
            *current = object;
        }
    }

    pub fn is_gone(&self) -> bool {
        matches!(self, Order::Gone)
    }

    pub fn be_gone(order: &mut Order) {
        *order = Order::Gone;
    }
}

/// Wakes a worker.
#[derive(Default)]
pub struct Wake {
    notify: Notify,
    retry: AtomicBool,
}

impl Wake {
    /// Something changed in the runtime.
    pub fn now(&self) {
        self.notify.notify_one();
    }

    /// Something a start waits for may be there: forget delays.
    pub fn retry_now(&self) {
        self.retry.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Whether `retry_now` was called since the last look.
    pub fn take_retry(&self) -> bool {
        self.retry.swap(false, Ordering::AcqRel)
    }
}
