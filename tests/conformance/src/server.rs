//! The embedded API server, in this process.

use anyhow::{Context as _, Result};
use apiserver::{ApiServer, Reach, RunError, Settings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::connect::connect;

/// An embedded API server with all its controllers, in a folder of its own that goes away with it.
pub struct Embedded {
    pub cluster: Cluster,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
    _folder: tempfile::TempDir,
}

impl Embedded {
    /// Starts one on a free port of the loopback address.
    ///
    /// # Errors
    /// The folder cannot be made, or the server does not start.
    pub async fn start() -> Result<Embedded> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let server = ApiServer::build(Settings {
            data_dir: folder.path().join("data"),
            listen: ([127, 0, 0, 1], 0).into(),
            names: vec![],
            admin_kubeconfig: kubeconfig.clone(),
            clients: vec![],
            nodes: Reach::Nobody,
            controllers: vec!["*".to_owned()],
            limits: apiserver::Limits::default(),
            service_range: apiserver::ServiceRange::default(),
            service_account_signing_key: None,
            audit_log: None,
        })
        .await
        .context("building the embedded API server")?;
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        let cluster = connect(&kubeconfig).await?;
        Ok(Embedded { cluster, stop, running, _folder: folder })
    }

    /// Stops it.
    ///
    /// # Errors
    /// The server ended otherwise than by being told to.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.running.await.context("the embedded API server")?.context("the embedded API server")
    }
}
