//! The way to a cluster.

use std::path::Path;

use crate::client::Client;
use crate::cluster::{Cluster, ClusterError, of_kubeconfig};

/// Reads a kubeconfig and asks its API server for its version.
///
/// # Errors
/// [`ClusterError`]: the file cannot be read, names no server or credentials, or the server does not answer.
pub async fn connect(kubeconfig: &Path) -> Result<Cluster, ClusterError> {
    let mut cluster = of_kubeconfig(kubeconfig)?;
    cluster.minor = Client::new(&cluster).version().await.map_err(ClusterError::Version)?;
    Ok(cluster)
}
