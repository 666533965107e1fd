//! `modules.metaManager.metaServer` of `edgecore.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaServer {
    /// Whether it is served. Unlike KubeEdge's it is always behind TLS, and knows and authorises who asks.
    pub enable: bool,
    /// `address:port` where programs in the host's network reach it.
    pub server: String,
    /// `address:port` where pods reach it, if the address is one of this machine's; empty: nowhere.
    pub dummy_server: String,
    /// The CA that signed `tlsCertFile`; pods are told to trust it. Used with that file only.
    pub tls_ca_file: String,
    /// A certificate to show; with `tlsPrivateKeyFile`, and once both are there. Empty: one of a CA that the node makes
    /// for itself. What KubeEdge writes here, EdgeHub's own certificate, counts as empty: it is none for a server.
    pub tls_cert_file: String,
    /// Its key.
    pub tls_private_key_file: String,
    /// Issuers of the tokens that keys of `serviceAccountKeyFiles` sign.
    pub service_account_issuers: Vec<String>,
    /// Tokens must be meant for one of these, or for their issuer.
    pub api_audiences: Vec<String>,
    /// Public keys (PEM) of service-account tokens, beside those that the cloud delivers.
    pub service_account_key_files: Vec<String>,
    /// Ours: what clients are shown differently than it is stored (docs/metaserver.md).
    pub filters: MetaServerFilters,
    /// Ours: keep views of all Services, and of nodes where a Service stays within a pool or a zone, as the node: for the filter
    /// `servicetopology` and the service environment variables of pods. The cloud has to let nodes ask
    /// (`modules.dynamicController.nodeIdentity` of CloudCore); otherwise what clients on the node watch is used.
    pub watch_services: bool,
    /// Ours: writes that are taken while the node is cut off and carried out later: `nodes/status`, `pods/status`, `leases` and `events`
    /// of the node itself; `events`, and changes of objects of the resources named here (`configmaps`, `valves.example.com/status`), of
    /// callers whom the cloud allowed the same before. Empty: none; in hub form all of the node. The node's own have no use with
    /// `modules.edged`: EdgeCore keeps its own.
    pub queued_writes: Vec<String>,
    /// Ours: the hub form (`edgecore --hub`).
    pub hub: MetaServerHub,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaServerHub {
    /// Whether EdgeCore is a hub: it runs no pods (`modules.edged` is off), and a kubelet, kube-proxy and others take MetaServer, which
    /// is on, for the API server. The same as `edgecore --hub`. CloudCore has to let nodes ask as themselves
    /// (`modules.dynamicController.nodeIdentity`).
    pub enable: bool,
    /// `address:port` on loopback where requests are taken without TLS, and those without a token as the node's own, as YurtHub does at
    /// 127.0.0.1:10261: whoever has an account on this machine then has the node's rights. Empty: nowhere.
    pub plain_server: String,
    /// `address:port` of this machine where the kubelet serves its API: `kubectl logs`, `exec`, `attach`, `port-forward` and
    /// `nodes/NAME/proxy` of this node are passed on to it. It has to run as the same user as EdgeCore, and to ask MetaServer who
    /// calls it (the kubelet's defaults, with the kubeconfig that EdgeCore writes). Empty: they are not served.
    pub kubelet: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetaServerFilters {
    /// Filters that are off: of `masterservice`, `serviceenvupdater`, `inclusterconfig`, `discardcloudservice`,
    /// `servicetopology`, `nodeportisolation` and `forwardkubesvctraffic`.
    pub disabled: Vec<String>,
    /// Components that see through a filter beside its own, by the filter's name: the part of their `User-Agent` before the
    /// first slash, or `*` for all.
    pub components: BTreeMap<String, Vec<String>>,
}

impl Default for MetaServerHub {
    fn default() -> Self {
        MetaServerHub { enable: false, plain_server: String::new(), kubelet: "127.0.0.1:10250".to_owned() }
    }
}

impl Default for MetaServer {
    fn default() -> Self {
        MetaServer {
            enable: false,
            server: "127.0.0.1:10550".to_owned(),
            dummy_server: "169.254.30.10:10550".to_owned(),
            tls_ca_file: String::new(),
            tls_cert_file: String::new(),
            tls_private_key_file: String::new(),
            service_account_issuers: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            api_audiences: Vec::new(),
            service_account_key_files: Vec::new(),
            filters: MetaServerFilters::default(),
            watch_services: true,
            queued_writes: Vec::new(),
            hub: MetaServerHub::default(),
        }
    }
}
