//! What every request can reach.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::storage::Storage;
use crate::tokens::Signer;

pub(crate) struct Context {
    pub storage: Storage,
    pub registry: Arc<Registry>,
    pub signer: Signer,
    /// CA certificate as PEM, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Ends watches.
    pub stop: CancellationToken,
}
