//! What clients see of objects: filters as YurtHub has them, and the readiness of this node's own pods. Pure.
//!
//! ```text
//! stored --(component of the client, facts of the node)--> shown, or hidden
//! ```
//!
//! Answers to get, list and watch go through them, never what is stored. A component is the part of a `User-Agent` before the
//! first slash: it chooses what a client is shown of what it may read, and gives no rights. What no filter is about stays as it
//! is, to the byte.

pub(crate) mod facts;
mod services;
mod slices;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use http::header::USER_AGENT;
use kubeapi::stored::Stored;
use serde_json::Value;

use crate::queue;
use facts::Facts;

/// A filter, by the name that YurtHub gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// The Service `default/kubernetes` is MetaServer.
    MasterService,
    /// Where a container names the API server itself, it is MetaServer.
    ServiceEnvUpdater,
    /// kube-proxy's configuration names no kubeconfig, so that it asks MetaServer.
    InClusterConfig,
    /// Services of load balancers in the cloud are hidden.
    DiscardCloudService,
    /// Endpoints of a Service are those on this node, in its pool or in its zone.
    ServiceTopology,
    /// Services of node ports are hidden in pools that they do not name.
    NodePortIsolation,
    /// The endpoint of `default/kubernetes` is MetaServer.
    ForwardKubeSvcTraffic,
}

impl Filter {
    pub const ALL: [Filter; 7] = [
        Filter::MasterService,
        Filter::ServiceEnvUpdater,
        Filter::InClusterConfig,
        Filter::DiscardCloudService,
        Filter::ServiceTopology,
        Filter::NodePortIsolation,
        Filter::ForwardKubeSvcTraffic,
    ];

    /// As the configuration and YurtHub name it.
    pub fn name(self) -> &'static str {
        match self {
            Filter::MasterService => "masterservice",
            Filter::ServiceEnvUpdater => "serviceenvupdater",
            Filter::InClusterConfig => "inclusterconfig",
            Filter::DiscardCloudService => "discardcloudservice",
            Filter::ServiceTopology => "servicetopology",
            Filter::NodePortIsolation => "nodeportisolation",
            Filter::ForwardKubeSvcTraffic => "forwardkubesvctraffic",
        }
    }

    pub fn named(name: &str) -> Option<Filter> {
        Filter::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// The components that see through it, as with YurtHub; in whatever case they write it: CoreDNS calls itself so in a pod, and
    /// `coredns` with a kubeconfig.
    pub fn components(self) -> &'static [&'static str] {
        match self {
            Filter::MasterService | Filter::ServiceEnvUpdater | Filter::InClusterConfig => &["kubelet"],
            Filter::ServiceTopology => &["kube-proxy", "coredns", "nginx-ingress-controller"],
            Filter::DiscardCloudService | Filter::NodePortIsolation | Filter::ForwardKubeSvcTraffic => {
                &["kube-proxy"]
            }
        }
    }

    /// What it is about, as in [`kubeapi::stored::Key::resource`].
    fn resources(self) -> &'static [&'static str] {
        match self {
            Filter::MasterService | Filter::DiscardCloudService | Filter::NodePortIsolation => &["services"],
            Filter::ServiceEnvUpdater => &["pods"],
            Filter::InClusterConfig => &["configmaps"],
            Filter::ServiceTopology => &[facts::SLICES, facts::ENDPOINTS],
            Filter::ForwardKubeSvcTraffic => &[facts::SLICES],
        }
    }

    fn apply(self, facts: &Facts, stored: &Stored) -> Seen {
        match self {
            Filter::MasterService => services::master(facts, stored),
            Filter::DiscardCloudService => services::discard(stored),
            Filter::NodePortIsolation => services::isolate(facts, stored),
            Filter::ServiceEnvUpdater => workloads::environment(facts, stored),
            Filter::InClusterConfig => workloads::in_cluster(stored),
            Filter::ServiceTopology => slices::topology(facts, stored),
            Filter::ForwardKubeSvcTraffic => slices::forward(facts, stored),
        }
    }
}

/// What a filter makes of an object.
#[derive(Debug, PartialEq)]
enum Seen {
    AsItIs,
    Changed(Value),
    Hidden,
}

/// The body, if it has `word` in it and parses.
fn with(stored: &Stored, word: &str) -> Option<Value> {
    stored.body.contains(word).then(|| serde_json::from_str(&stored.body).ok()).flatten()
}

/// Who sees through which filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// These are off.
    pub off: BTreeSet<Filter>,
    /// Components that see through a filter, beside its own; `*` is all.
    pub more: BTreeMap<Filter, Vec<String>>,
}

impl Filters {
    /// What the component of a request sees `resource` through.
    pub(crate) fn of(&self, headers: &HeaderMap, resource: &str) -> Glass {
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let component = agent.split('/').next().unwrap_or_default();
        let sees = |filter: &Filter| {
            let more = self.more.get(filter).into_iter().flatten();
            let mut all = filter.components().iter().copied().chain(more.map(String::as_str));
            filter.resources().contains(&resource)
                && !self.off.contains(filter)
                && all.any(|name| name == "*" || name.eq_ignore_ascii_case(component))
        };
        let is_sliced = [facts::SLICES, facts::ENDPOINTS].contains(&resource);
        let is_written = ["pods", "nodes", facts::LEASES].contains(&resource);
        Glass { filters: Filter::ALL.into_iter().filter(sees).collect(), is_sliced, is_written }
    }
}

/// What one client sees objects of one resource through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glass {
    filters: Vec<Filter>,
    /// They have endpoints.
    is_sliced: bool,
    /// The node writes them, and its writes may wait for the cloud.
    is_written: bool,
}

impl Glass {
    /// Writes to these objects may wait.
    pub(crate) fn with_writes(self) -> Glass {
        Glass { is_written: true, ..self }
    }

    /// Nothing is ever shown differently.
    pub(crate) fn is_clear(&self) -> bool {
        self.filters.is_empty() && !self.is_sliced && !self.is_written
    }

    /// What waits for the cloud changes what is seen.
    pub(crate) fn is_of_writes(&self) -> bool {
        self.is_written
    }

    /// The object may have looked different in this very version, when the facts were others.
    pub(crate) fn may_differ(&self, facts: &Facts, stored: &Stored) -> bool {
        let is_about = |filter: &Filter| match filter {
            Filter::MasterService => stored.key.name == "kubernetes",
            Filter::NodePortIsolation => stored.body.contains(services::LISTEN),
            Filter::ServiceEnvUpdater => stored.body.contains(workloads::API_SERVER),
            Filter::InClusterConfig | Filter::DiscardCloudService => false,
            Filter::ServiceTopology | Filter::ForwardKubeSvcTraffic => true,
        };
        let is_waited_for = || facts.writes.iter().any(|write| write.is_of(stored));
        self.is_sliced || self.is_written && is_waited_for() || self.filters.iter().any(is_about)
    }

    /// The object as the client sees it; `None`: it is hidden.
    pub(crate) fn show(&self, facts: &Facts, stored: &Stored) -> Option<Stored> {
        let mut shown = stored.clone();
        if self.is_written
            && let Some(written) = queue::shown(&shown, &facts.writes)
        {
            shown.body = written.to_string().into();
        }
        if self.is_sliced {
            let ready = slices::readiness(facts, &shown);
            shown = changed(shown, ready)?;
        }
        self.filters.iter().try_fold(shown, |shown, filter| {
            let seen = filter.apply(facts, &shown);
            changed(shown, seen)
        })
    }
}

fn changed(stored: Stored, seen: Seen) -> Option<Stored> {
    match seen {
        Seen::AsItIs => Some(stored),
        Seen::Changed(value) => Some(Stored { body: value.to_string().into(), ..stored }),
        Seen::Hidden => None,
    }
}

#[cfg(test)]
mod tests;
