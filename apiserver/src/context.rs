//! What every request can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemon::memory::HeapTrimmer;
use kubeapi::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::apiservices::Services;
use crate::graph::Graph;
use crate::limits::Limits;
use crate::namespaces::Namespaces;
use crate::nodes::WayToNodes;
use crate::policies::Policies;
use crate::registered::Registered;
use crate::roles::Roles;
use crate::rules::Rules;
use crate::signer::Signer;
use crate::storage::Storage;
use crate::turns::Turns;
use crate::usage::Recent;

pub(crate) struct Context {
    pub storage: Storage,
    pub registry: Arc<Registry>,
    /// Whom to ask before a change.
    pub webhooks: Arc<Registered>,
    /// What changes must fulfil.
    pub policies: Arc<Policies>,
    /// What custom resources must fulfil.
    pub rules: Arc<Rules>,
    /// What users may do.
    pub roles: Arc<Roles>,
    pub signer: Signer,
    /// Signs certificates that nodes serve with.
    pub authority: Arc<pki::Authority>,
    /// CA certificate as PEM, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Ends watches.
    pub stop: CancellationToken,
    pub traffic: Traffic,
    pub usage: Recent,
    /// Of services.
    pub addresses: Arc<Addresses>,
    /// Those that are there.
    pub namespaces: Arc<Namespaces>,
    /// What is on which node.
    pub graph: Arc<Graph>,
    /// What namespaces limit.
    pub limits: Arc<Limits>,
    /// Who else serves versions of groups.
    pub services: Arc<Services>,
    /// What every namespace has comes back when it is deleted, as where kube-controller-manager runs.
    pub restores: bool,
    /// Of those who write one object.
    pub turns: Turns,
    pub nodes: WayToNodes,
}

impl Context {
    /// True if somebody is to be asked about changes.
    pub(crate) fn asks(&self) -> bool {
        !self.webhooks.is_empty() || !self.policies.is_empty()
    }
}

/// Bytes asked and answered: large work leaves memory that is to go back to the kernel.
#[derive(Default)]
pub(crate) struct Traffic {
    bytes: AtomicU64,
    pub spare: HeapTrimmer,
}

/// Bytes that make a spell of work: what leases and statuses of a few nodes come to in some minutes is none.
const SPELL: u64 = 1024 * 1024;

impl Traffic {
    pub(crate) fn note(&self, bytes: u64) {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= SPELL {
            self.bytes.store(0, Ordering::Relaxed);
            self.spare.note();
        }
    }
}
