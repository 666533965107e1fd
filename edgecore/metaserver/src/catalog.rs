//! What the API server serves, as it told last: the catalogue, with custom resources, and the documents of discovery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::object::{list, text};
use daemon::clock::unix_seconds;
use kubeapi::registry::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ask;
use crate::caller::Caller;
use crate::tables::Tables;
use crate::upstream::Upstream;

/// Aggregated discovery (`apidiscovery.k8s.io/v2`), which API servers have since 1.26 and 1.30.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// Names of the documents, and their paths.
pub(crate) const CORE: &str = "/api";
pub(crate) const GROUPS: &str = "/apis";
pub(crate) const VERSION: &str = "/version";
/// The API server is asked again after this, when somebody asks here.
const OLD: i64 = 600;
/// And not more often than this, whatever unknown resources are asked for.
const RARELY: Duration = Duration::from_secs(5);

pub(crate) struct Catalog {
    pub registry: Registry,
    tables: Tables,
    upstream: Arc<dyn Upstream>,
    node: Caller,
    /// Definitions made of the documents, by name.
    defined: Mutex<BTreeSet<String>>,
    /// When the API server told it, in Unix seconds.
    seen: AtomicI64,
    /// Definitions were changed through this node: the next unknown resource is asked for at once.
    changed: AtomicBool,
    /// When the API server was asked last; one asks at a time.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Catalog {
    /// With what is kept. What is built in is served in any case.
    pub(crate) async fn build(tables: Tables, upstream: Arc<dyn Upstream>, node: Caller) -> Catalog {
        let catalog = Catalog {
            registry: Registry::new(),
            tables,
            upstream,
            node,
            defined: Mutex::default(),
            seen: AtomicI64::new(0),
            changed: AtomicBool::new(false),
            asked: Default::default(),
        };
        let seen = catalog.tables.document(GROUPS).await.ok().flatten().map_or(0, |(_, seen)| seen);
        catalog.seen.store(seen, Ordering::Relaxed);
        if let (Some(core), Some(groups)) = (catalog.kept(CORE).await, catalog.kept(GROUPS).await) {
            catalog.define(&[&core, &groups]);
        }
        catalog
    }

    /// A document as it was told last.
    pub(crate) async fn kept(&self, name: &'static str) -> Option<String> {
        self.tables.document(name).await.ok().flatten().map(|(body, _)| body)
    }

    /// True if there is such a resource, in whatever version.
    pub(crate) fn has(&self, group: &str, plural: &str) -> bool {
        self.registry.resources().iter().any(|one| one.group == group && one.plural == plural)
    }

    /// Has the API server asked if what is kept is old, while others are answered.
    pub(crate) fn refresh_if_old(self: &Arc<Catalog>) {
        let age = unix_seconds() - self.seen.load(Ordering::Relaxed);
        let is_being_asked = self.asked.try_lock().is_err();
        if (0..OLD).contains(&age) || is_being_asked || !*self.upstream.connected().borrow() {
            return;
        }
        let catalog = self.clone();
        daemon::spawn(async move { catalog.refresh().await });
    }

    /// A client changed objects of this group: some groups define what is served.
    pub(crate) fn was_changed(&self, group: &str) {
        if matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io") {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Asks the API server; not while the node is cut off, and not too often.
    pub(crate) async fn refresh(&self) {
        if !*self.upstream.connected().borrow() {
            return;
        }
        let mut asked = self.asked.lock().await;
        let is_new = self.changed.swap(false, Ordering::Relaxed);
        if !is_new && asked.is_some_and(|at| at.elapsed() < RARELY) {
            return;
        }
        *asked = Some(Instant::now());
        let mut read = Vec::new();
        for (name, accept) in [(CORE, AGGREGATED), (GROUPS, AGGREGATED), (VERSION, "application/json")] {
            let answer = ask::whole(&*self.upstream, Some(&self.node), name, accept).await;
            let body = answer.ok().and_then(|body| String::from_utf8(body.to_vec()).ok());
            let Some(body) = body else {
                tracing::debug!(path = name, "the API server did not tell what it serves");
                return;
            };
            read.push((name, body));
        }
        let [(_, core), (_, groups), _] = read.as_slice() else { return };
        if !self.define(&[core, groups]) {
            tracing::debug!(
                "the API server does not tell in one document what it serves: only built-in resources are known"
            );
            return;
        }
        self.seen.store(unix_seconds(), Ordering::Relaxed);
        for (name, body) in read {
            if let Err(error) = self.tables.keep_document(name, body, unix_seconds()).await {
                tracing::warn!(error = %error, "what the API server serves is not stored: it is gone with this process");
                return;
            }
        }
    }

    /// Takes over what the documents say. False if they are of another form.
    fn define(&self, documents: &[&str]) -> bool {
        let mut definitions = BTreeMap::new();
        for document in documents {
            let Ok(document) = serde_json::from_str::<Value>(document) else { return false };
            if document["kind"] != "APIGroupDiscoveryList" {
                return false;
            }
            for group in list(&document, "/items") {
                read_group(&self.registry, group, &mut definitions);
            }
        }
        let mut defined = self.defined.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<String> =
            defined.iter().filter(|name| !definitions.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| self.registry.forget(name));
        definitions.iter().for_each(|(name, definition)| self.registry.define(name, definition));
        *defined = definitions.into_keys().collect();
        true
    }
}

/// Adds a definition for each resource of a group, of its versions that are not built in.
fn read_group(registry: &Registry, group: &Value, definitions: &mut BTreeMap<String, Value>) {
    let name = text(group, "/metadata/name");
    let is_built_in = |version: &str, plural: &str| {
        registry.find(name, version, plural).is_some_and(|served| !served.resource.custom)
    };
    for version in list(group, "/versions") {
        for resource in list(version, "/resources") {
            let (version, plural) = (text(version, "/version"), text(resource, "/resource"));
            let is_listed = list(resource, "/verbs").iter().any(|verb| verb == "get" || verb == "list");
            if is_built_in(version, plural) || plural.is_empty() || !is_listed {
                continue;
            }
            let kind = text(resource, "/responseKind/kind");
            let has_status = list(resource, "/subresources").iter().any(|one| one["subresource"] == "status");
            let subresources = if has_status { json!({ "status": {} }) } else { json!({}) };
            let described = json!({ "name": version, "served": true, "subresources": subresources });
            let key = if name.is_empty() { plural.to_owned() } else { format!("{plural}.{name}") };
            let definition = definitions.entry(key).or_insert_with(|| {
                json!({ "spec": {
                    "group": name,
                    "scope": resource["scope"],
                    "names": {
                        "plural": plural, "singular": resource["singularResource"], "kind": kind,
                        "listKind": format!("{kind}List"), "shortNames": resource["shortNames"],
                        "categories": resource["categories"],
                    },
                    "versions": [],
                } })
            });
            if let Some(versions) = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
                versions.push(described);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_resources_and_other_versions_of_built_in_ones_are_served_as_discovery_tells() {
        let registry = Registry::new();
        let group = json!({ "metadata": { "name": "autoscaling" }, "versions": [
            { "version": "v2", "resources": [{ "resource": "horizontalpodautoscalers", "scope": "Namespaced",
                "verbs": ["get", "list"], "responseKind": { "kind": "HorizontalPodAutoscaler" } }] },
            { "version": "v1", "resources": [{ "resource": "horizontalpodautoscalers", "scope": "Namespaced",
                "verbs": ["get", "list"], "responseKind": { "kind": "HorizontalPodAutoscaler" } }] } ] });
        let custom = json!({ "metadata": { "name": "x.io" }, "versions": [{ "version": "v1", "resources": [
            { "resource": "valves", "singularResource": "valve", "scope": "Cluster", "shortNames": ["va"],
                "verbs": ["get", "list", "watch"], "responseKind": { "kind": "Valve" },
                "subresources": [{ "subresource": "status" }] },
            { "resource": "valvereviews", "scope": "Cluster", "verbs": ["create"], "responseKind": { "kind": "R" } } ] }] });
        let mut definitions = BTreeMap::new();
        for group in [&group, &custom] {
            read_group(&registry, group, &mut definitions);
        }
        definitions.iter().for_each(|(name, definition)| registry.define(name, definition));
        let valve = registry.find("x.io", "v1", "valves").unwrap();
        assert_eq!((valve.resource.list_kind.as_str(), valve.resource.namespaced), ("ValveList", false));
        assert!(valve.version().status);
        assert!(registry.find("x.io", "v1", "valvereviews").is_none());
        for version in ["v1", "v2"] {
            let found = registry.find("autoscaling", version, "horizontalpodautoscalers").unwrap();
            assert_eq!(found.api_version(), format!("autoscaling/{version}"));
        }
    }
}
