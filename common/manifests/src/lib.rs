//! What an installation of CloudCore in a cluster is made of: one source for the plain manifests, for the Helm chart and for
//! `keadm manifest generate`. Pure.
//!
//! ```text
//! Installation (values.yaml) --Values::of-------> Values --documents--> objects --> plain YAML, JSON
//!                  expressions `{{ .Values.. }}` --Values::template--> Values --documents--> templates of the chart
//! ```
//!
//! A part that depends on a value is there, is not there, or is there under a condition of the chart ([`Switch`]).

#![deny(clippy::missing_errors_doc)]

mod access;
mod chart;
mod document;
mod identity;
mod installation;
mod marks;
mod network;
mod schema;
mod switch;
mod values;
mod webhooks;
mod words;
mod workload;
mod yaml;

use serde_json::Value;

pub use access::{CLUSTER, LEASES, OWN, Part, Rule};
pub use chart::{File, chart, files, plain};
pub use document::Document;
pub use installation::{
    CloudCore, Image, Installation, NetworkPolicy, PodDisruptionBudget, Service, ServiceMonitor,
};
pub use switch::Switch;
pub use values::{Ports, Values};

/// Where CloudCore is installed: it keeps its secrets, leases and config maps in this namespace and no other.
pub const NAMESPACE: &str = "kubeedge";

/// Of the program's own objects, and the labels that select its pods.
pub const NAME: &str = "cloudcore";

/// Every object but the custom resource definitions, in the order in which they are applied.
pub fn documents(values: &Values) -> Vec<Document> {
    [
        identity::documents(values),
        access::documents(values),
        network::documents(values),
        webhooks::documents(values),
        workload::documents(values),
    ]
    .concat()
}

/// The objects of an installation as the API takes them, without the custom resource definitions.
pub fn objects(installation: &Installation) -> Vec<Value> {
    let documents = documents(&Values::of(installation));
    documents.iter().filter(|document| document.when.is_there()).map(|document| document.object()).collect()
}

/// Parts of CloudCore that need rights of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// `modules.cloudStream`.
    pub streams: bool,
    /// `modules.webhooks`.
    pub webhooks: bool,
    /// `modules.dynamicController.nodeIdentity`.
    pub node_identity: bool,
}

/// Of the objects of an installation: the namespace, the service account with what it may do, and where there are webhooks their
/// configurations. What CloudCore needs wherever it runs.
pub fn rights(parts: Parts) -> Vec<Value> {
    let mut installation = Installation::default();
    let modules = &mut installation.cloud_core.modules;
    (modules.cloud_stream.enable, modules.webhooks.enable) = (parts.streams, parts.webhooks);
    modules.dynamic_controller.node_identity = parts.node_identity;
    let values = Values::of(&installation);
    let documents = [identity::documents(&values), access::documents(&values), webhooks::documents(&values)];
    let is_wanted = |object: &Value| object["kind"] != "ConfigMap";
    let documents = documents.concat().into_iter().filter(|document| document.when.is_there());
    documents.map(|document| document.object()).filter(is_wanted).collect()
}

/// What of an installation cannot work, in words for who wrote its values.
pub fn problems(installation: &Installation) -> Vec<String> {
    let modules = &installation.cloud_core.modules;
    let is_named = modules.cloud_hub.advertise_address.iter().any(|address| !address.is_empty());
    let mut problems = Vec::new();
    let mut problem = |is: bool, text: &str| problems.extend(is.then(|| text.to_owned()));
    problem(
        !is_named,
        "cloudCore.modules.cloudHub.advertiseAddress: give at least one address or name by which edges reach CloudCore",
    );
    problem(
        modules.standalone.enable,
        "cloudCore.modules.standalone.enable: the embedded API server is not for a cluster; leave it out",
    );
    problem(
        modules.cloud_hub.unixsocket.enable,
        "cloudCore.modules.cloudHub.unixsocket.enable: the pod has no folder that a CSI driver shares; leave it out",
    );
    problem(
        installation.cloud_core.replica_count == 0,
        "cloudCore.replicaCount: must be greater than 0; kubectl scale stops an installation",
    );
    problems
}

#[cfg(test)]
mod tests;
