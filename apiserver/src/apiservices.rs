//! The APIServices that are stored: who serves which version of a group, ready to be asked.
//!
//! Kept by storage's commit hook, as webhooks are ([`crate::registered`]), so an APIService counts as soon as its creation is answered.
//! What is done about them is in [`crate::aggregation`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use apimachinery::apiservice;
use apimachinery::object::{integer, text};
use apimachinery::webhooks::Client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubeapi::registry::Elsewhere;
use pki::tls::{LiveClient, client_of_backends, client_of_backends_as};
use pki::{Bundle, Identity};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The key of APIServices in storage.
pub(crate) const SERVICES: &str = "apiservices.apiregistration.k8s.io";

/// A server that serves a version of a group.
pub(crate) struct Remote {
    /// Of the APIService.
    pub name: String,
    group: String,
    version: String,
    /// Of its Service.
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// Or why there is none.
    pub tls: Result<Arc<ClientConfig>, String>,
    /// What it was read from.
    pub spec: Value,
    probe: Mutex<Probe>,
}

/// When it is asked next, and what it said.
pub(crate) struct Probe {
    pub due: Instant,
    /// One after the other.
    pub failures: u32,
    pub is_running: bool,
    /// `resources` of its APIResourceList.
    pub resources: Vec<Value>,
}

impl Remote {
    fn read(name: &str, spec: &Value, identity: Option<&Identity>) -> Option<Remote> {
        let service = spec.get("service").filter(|service| service.is_object())?;
        let probe = Probe { due: Instant::now(), failures: 0, is_running: false, resources: vec![] };
        Some(Remote {
            name: name.to_owned(),
            group: text(spec, "/group").to_owned(),
            version: text(spec, "/version").to_owned(),
            namespace: text(service, "/namespace").to_owned(),
            service: text(service, "/name").to_owned(),
            port: integer(service, "/port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            tls: tls(spec, identity),
            spec: spec.clone(),
            probe: Mutex::new(probe),
        })
    }

    pub(crate) fn probe(&self) -> std::sync::MutexGuard<'_, Probe> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path that its server has to serve.
    pub(crate) fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// Where it is, as a webhook would be.
    pub(crate) fn client(&self) -> Client {
        let (namespace, name) = (self.namespace.clone(), self.service.clone());
        Client::Service { namespace, name, port: self.port, path: self.path() }
    }
}

/// The TLS by which a server is asked.
fn tls(spec: &Value, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, String> {
    if spec["insecureSkipTLSVerify"] == true {
        let client = identity.map_or_else(client_of_backends, client_of_backends_as);
        return client.map_err(|error| error.to_string());
    }
    let ca = STANDARD.decode(text(spec, "/caBundle")).unwrap_or_default();
    if ca.is_empty() {
        return Err("spec.caBundle is empty, and this server trusts no other CA".to_owned());
    }
    let usable = |error: &dyn std::error::Error| format!("spec.caBundle: {error}");
    let bundle = Bundle::from_pem(&ca).map_err(|error| usable(&error))?;
    Ok(LiveClient::new(&bundle, identity).map_err(|error| usable(&error))?.config())
}

struct Entry {
    priority: (i64, i64),
    is_available: bool,
    /// `None`: this server.
    remote: Option<Arc<Remote>>,
}

/// Who serves what.
#[derive(Default)]
pub(crate) struct Services {
    /// By the name of the APIService.
    entries: RwLock<BTreeMap<String, Entry>>,
    /// What other servers are shown, if anything.
    identity: Option<Identity>,
    /// There is something to probe.
    pub changed: Notify,
}

impl Services {
    pub(crate) fn new(identity: Identity) -> Services {
        Services { identity: Some(identity), ..Services::default() }
    }

    /// Takes note of an APIService as it is now; `None`: there is none of this name any more.
    pub(crate) fn set(&self, name: &str, object: Option<&Value>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let Some(object) = object else { return drop(entries.remove(name)) };
        let spec = &object["spec"];
        let number = |field: &str| integer(spec, &format!("/{field}")).unwrap_or(0);
        let known = entries.remove(name).and_then(|entry| entry.remote);
        // What was said stays known while only the status changes.
        let known = known.filter(|remote| remote.spec == *spec);
        // This server's own part for APIServices is nobody else's.
        let is_own = text(spec, "/group") == apiservice::GROUP;
        let read = || Remote::read(name, spec, self.identity.as_ref()).map(Arc::new);
        let remote = if is_own { None } else { known.or_else(read) };
        let entry = Entry {
            priority: (number("groupPriorityMinimum"), number("versionPriority")),
            is_available: apiservice::is_available(object),
            remote,
        };
        entries.insert(name.to_owned(), entry);
        self.changed.notify_one();
    }

    pub(crate) fn remotes(&self) -> Vec<Arc<Remote>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().filter_map(|entry| entry.remote.clone()).collect()
    }

    /// The server of a version of a group, and whether it is available; `None`: it is this one.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<(Arc<Remote>, bool)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&apiservice::name(group, version))?;
        Some((entry.remote.clone()?, entry.is_available))
    }

    pub(crate) fn is_elsewhere(&self, group: &str, version: &str) -> bool {
        self.find(group, version).is_some()
    }

    /// What discovery tells of other servers.
    pub(crate) fn listed(&self) -> Vec<Elsewhere> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> =
            entries.values().filter_map(|entry| Some((entry, entry.remote.as_ref()?))).collect();
        all.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.priority));
        let listed = all.into_iter().map(|(entry, remote)| Elsewhere {
            group: remote.group.clone(),
            version: remote.version.clone(),
            resources: remote.probe().resources.clone(),
            is_stale: !entry.is_available,
        });
        listed.collect()
    }
}
