//! The name servers of the node, as pods may use them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::network;
use nodebase::Settings;

/// Where systemd-resolved's own server listens: an address of the node's network only.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// Reads the node's resolv.conf, and complains once.
#[derive(Default)]
pub struct NameServers {
    has_warned: AtomicBool,
}

impl NameServers {
    /// The text of the node's resolv.conf. Where it names systemd-resolved's stub only, the servers behind it, as kubeadm
    /// configures the kubelet.
    pub async fn read(&self, settings: &Settings) -> String {
        let text = read(&settings.resolv_conf).await;
        let servers = network::name_servers(&text);
        if !servers.is_empty() && servers.iter().all(|server| STUBS.contains(&server.as_str())) {
            let upstream = read(&settings.resolved_conf).await;
            if !network::name_servers(&upstream).is_empty() {
                return upstream;
            }
        }
        if is_out_of_reach(&text) && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(path = %settings.resolv_conf.display(), key = KEY,
                "all name servers are loopback addresses, which pods cannot reach: name another file by its key");
        }
        text
    }
}

const KEY: &str = "modules.edged.tailoredKubeletConfig.resolvConf";

async fn read(path: &Path) -> String {
    tokio::fs::read_to_string(path).await.unwrap_or_default()
}

/// True if there are name servers, and pods with a network of their own can reach none of them.
fn is_out_of_reach(text: &str) -> bool {
    let servers = network::name_servers(text);
    let is_loopback = |server: &String| server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !servers.is_empty() && servers.iter().all(is_loopback)
}

/// What is to be told of a pod's DNS. Pure.
pub(super) fn complaints(
    pod: &Pod,
    spec: &PodSpec,
    settings: &Settings,
    resolv: &str,
) -> Vec<(&'static str, String)> {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let wants_cluster = policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && !host_network);
    let mut all = Vec::new();
    if wants_cluster && settings.cluster_dns.is_empty() {
        let text = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. \
            Falling back to \"Default\" policy.";
        all.push(("MissingClusterDNS", text.to_owned()));
    }
    let given = network::dns(pod, spec, settings, resolv);
    let are_the_nodes = given.servers.iter().all(|server| network::name_servers(resolv).contains(server));
    if !host_network && !given.servers.is_empty() && are_the_nodes && is_out_of_reach(resolv) {
        let text = format!(
            "the name servers of the node ({}) are loopback addresses, which the pod cannot reach",
            given.servers.join(", ")
        );
        all.push(("DNSConfigForming", text));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> Settings {
        Settings::with_defaults(message::NodeName::new("e").unwrap())
    }

    #[tokio::test]
    async fn behind_the_stub_of_systemd_resolved_are_the_servers_it_asks() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings();
        settings.resolv_conf = folder.path().join("resolv.conf");
        settings.resolved_conf = folder.path().join("upstream.conf");
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
        std::fs::write(&settings.resolv_conf, stub).unwrap();
        let servers = NameServers::default();
        assert_eq!(servers.read(&settings).await, stub, "there is nothing better");
        let upstream = "nameserver 192.0.2.53\nsearch lan\n";
        std::fs::write(&settings.resolved_conf, upstream).unwrap();
        assert_eq!(servers.read(&settings).await, upstream);
        let own = "nameserver 127.0.0.53\nnameserver 192.0.2.1\n";
        std::fs::write(&settings.resolv_conf, own).unwrap();
        assert_eq!(servers.read(&settings).await, own, "it names one that pods reach");
    }

    #[test]
    fn a_pod_is_told_why_its_names_will_not_be_found() {
        let mut settings = settings();
        let reasons = |settings: &Settings, spec: serde_json::Value, resolv: &str| -> Vec<&'static str> {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            let spec = pod.spec.clone().unwrap();
            complaints(&pod, &spec, &settings.clone(), resolv).into_iter().map(|(reason, _)| reason).collect()
        };
        let (loopback, far) = ("nameserver 127.0.0.1\n", "nameserver 192.0.2.1\n");
        let plain = json!({"containers": []});
        assert_eq!(reasons(&settings, plain.clone(), loopback), ["MissingClusterDNS", "DNSConfigForming"]);
        assert_eq!(reasons(&settings, plain.clone(), far), ["MissingClusterDNS"]);
        assert!(reasons(&settings, json!({"containers": [], "dnsPolicy": "Default"}), far).is_empty());
        assert!(reasons(&settings, json!({"containers": [], "hostNetwork": true}), loopback).is_empty());
        settings.cluster_dns = vec!["169.254.96.16".parse().unwrap()];
        assert!(reasons(&settings, plain, loopback).is_empty());
    }
}
