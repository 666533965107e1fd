//! Follows the secrets while CloudCore runs: a CA that is being replaced, a server certificate that is renewed here or
//! by another replica. Sessions stay; the next handshake sees what is new.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use daemon::errors::describe;
use pki::Identity;
use pki::tls::LiveServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{MaterialError, MaterialSettings, Trust, server};
use crate::kubernetes::Cluster;

pub struct Keeper {
    pub(super) cluster: Cluster,
    pub(super) wanted: MaterialSettings,
    pub(super) presented: Identity,
    pub(super) server: LiveServer,
    pub(super) trust: watch::Sender<Arc<Trust>>,
}

impl Keeper {
    /// Looks every `interval` until stopped.
    pub async fn run(mut self, interval: Duration, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                _ = tokio::time::sleep(interval) => {}
            }
            let looked = tokio::select! {
                biased;
                _ = stop.cancelled() => return Ok(()),
                looked = self.look() => looked,
            };
            if let Err(error) = looked {
                tracing::warn!(error = describe(&error), "certificates not checked, trying again");
            }
        }
    }

    async fn look(&mut self) -> Result<(), MaterialError> {
        let now = daemon::clock::unix_seconds();
        let trust = super::obtain_trust(&self.cluster, &self.wanted, now).await?;
        let presented = server::obtain(&self.cluster, &trust, &self.wanted.names, now).await?;
        let before = self.trust.borrow().clone();
        let same_trust = before.is_same(&trust);
        if same_trust && presented.certificate() == self.presented.certificate() {
            return Ok(());
        }
        self.server.change(&presented, &trust.bundle).map_err(MaterialError::Tls)?;
        self.presented = presented;
        tracing::info!(
            ca = trust.authority.fingerprint(),
            trusted = trust.bundle.certificates().len(),
            "certificates changed"
        );
        if !same_trust {
            self.trust.send_replace(Arc::new(trust));
        }
        Ok(())
    }
}
