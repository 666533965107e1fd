//! Logs and commands, through the stream server.

use anyhow::{Result, ensure};

use super::Lab;
use crate::peer;

impl Lab {
    pub(super) fn streams(&self) -> Result<()> {
        self.until("logs", || {
            Ok(self.kubectl.run(&["logs", "asks"]).is_ok_and(|log| log.starts_with("started\n")))
        })?;
        let stranger = self.kubectl.run(&["create", "token", "default"])?;
        let bearer = format!("Bearer {}", stranger.trim());
        let tls = peer::tls(&self.edges[0].root, false)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (path, headers) = ("/containerLogs/default/asks/c", [("Authorization", bearer.as_str())]);
        let (status, _) = runtime.block_on(peer::get(tls, self.streams, path, &headers, Vec::new()))?;
        ensure!(status == 403, "a service account without rights: {status}");
        Ok(())
    }
}
