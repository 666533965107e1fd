//! Reports to EdgeCore over the connection the link keeps.

use std::sync::Arc;

use dmi::v1beta1::DeviceStatus;
use dmi::{DmiCallError, Manager};
use tokio::sync::{Notify, watch};

#[derive(Clone)]
pub(crate) struct Reporter {
    /// `None` while there is no registration.
    manager: watch::Receiver<Option<Manager>>,
    /// Tells the link that EdgeCore does not answer.
    broken: Arc<Notify>,
}

impl Reporter {
    pub(crate) fn new(manager: watch::Receiver<Option<Manager>>, broken: Arc<Notify>) -> Reporter {
        Reporter { manager, broken }
    }

    /// True if EdgeCore took the report.
    pub(crate) async fn twins(&self, namespace: &str, name: &str, status: DeviceStatus) -> bool {
        let Some(manager) = self.manager.borrow().clone() else { return false };
        self.judge(namespace, name, manager.report_twins(namespace, name, status).await)
    }

    /// True if EdgeCore took the report.
    pub(crate) async fn state(&self, namespace: &str, name: &str, state: &str) -> bool {
        let Some(manager) = self.manager.borrow().clone() else { return false };
        self.judge(namespace, name, manager.report_state(namespace, name, state).await)
    }

    fn judge(&self, namespace: &str, name: &str, answer: Result<(), DmiCallError>) -> bool {
        let Err(error) = answer else { return true };
        if error.is_retryable() {
            tracing::debug!(namespace, name, error = %error, "report lost");
            self.broken.notify_one();
        } else {
            tracing::warn!(namespace, name, error = %error, "EdgeCore refused a report");
        }
        false
    }
}
