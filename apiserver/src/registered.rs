//! The webhooks of the configurations that are stored, ready to be asked.
//!
//! Kept by storage's commit hook, in commit order, so a configuration counts as soon as its creation is answered. Where there is
//! none, a request costs a look at an empty list.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use apimachinery::webhooks::{self, Phase, Webhook};
use celrules::Condition;
use pki::Bundle;
use pki::tls::LiveClient;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::Semaphore;

/// Questions to one webhook at once; further ones wait, which is part of their time. One that is slow holds up no other.
const AT_ONCE: usize = 64;

/// A webhook, and the TLS by which it is asked.
#[derive(Debug)]
pub(crate) struct Hook {
    pub webhook: Webhook,
    /// Or why there is none.
    pub tls: Result<Arc<ClientConfig>, String>,
    pub turns: Semaphore,
    conditions: OnceLock<Vec<Condition>>,
}

impl Hook {
    fn new(webhook: Webhook) -> Hook {
        Hook { tls: tls(&webhook.ca), webhook, turns: Semaphore::new(AT_ONCE), conditions: OnceLock::new() }
    }

    /// Compiled when they are first needed. Call it on a thread for rules.
    pub(crate) fn conditions(&self) -> &[Condition] {
        self.conditions.get_or_init(|| celrules::conditions(&self.webhook.conditions))
    }
}

#[derive(Default)]
struct Hooks {
    /// By the name of their configuration, which is the order in which they are asked.
    configured: BTreeMap<String, Vec<Arc<Hook>>>,
    /// The same, one after the other.
    all: Arc<[Arc<Hook>]>,
}

#[derive(Default)]
pub(crate) struct Registered {
    mutating: RwLock<Hooks>,
    validating: RwLock<Hooks>,
}

impl Registered {
    fn hooks(&self, phase: Phase) -> &RwLock<Hooks> {
        match phase {
            Phase::Mutating => &self.mutating,
            Phase::Validating => &self.validating,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all(Phase::Mutating).is_empty() && self.all(Phase::Validating).is_empty()
    }

    /// All of a phase, in order.
    pub(crate) fn all(&self, phase: Phase) -> Arc<[Arc<Hook>]> {
        self.hooks(phase).read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Takes note of a configuration as it is now; `None`: there is none of this name any more.
    pub(crate) fn set(&self, phase: Phase, name: &str, configuration: Option<&Value>) {
        let mut hooks = self.hooks(phase).write().unwrap_or_else(PoisonError::into_inner);
        match configuration {
            None => drop(hooks.configured.remove(name)),
            Some(configuration) => {
                let read = webhooks::read(configuration).into_iter();
                let read = read.map(|webhook| Arc::new(Hook::new(webhook)));
                hooks.configured.insert(name.to_owned(), read.collect());
            }
        }
        hooks.all = hooks.configured.values().flatten().cloned().collect();
    }
}

/// Both resources of configurations, by their keys in storage.
pub(crate) const CONFIGURATIONS: [(&str, Phase); 2] = [
    ("mutatingwebhookconfigurations.admissionregistration.k8s.io", Phase::Mutating),
    ("validatingwebhookconfigurations.admissionregistration.k8s.io", Phase::Validating),
];

/// The phase of the configurations with this key in storage.
pub(crate) fn phase(resource: &str) -> Option<Phase> {
    CONFIGURATIONS.iter().find(|(key, _)| *key == resource).map(|(_, phase)| *phase)
}

/// The TLS of who trusts these CAs.
///
/// # Errors
/// Why there is none.
pub(crate) fn tls(ca: &[u8]) -> Result<Arc<ClientConfig>, String> {
    if ca.is_empty() {
        return Err("clientConfig.caBundle is empty, and this server trusts no other CA".to_owned());
    }
    let usable = |error: &dyn std::error::Error| format!("clientConfig.caBundle: {error}");
    let bundle = Bundle::from_pem(ca).map_err(|error| usable(&error))?;
    Ok(LiveClient::new(&bundle, None).map_err(|error| usable(&error))?.config())
}
