//! Where API servers reach the kubelet of a node: at the stream server, for nodes that only CloudCore can reach.
//!
//! Which of a node's addresses an API server takes, `--kubelet-preferred-address-types` says; kube-apiserver's default is
//! `Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP`, kubeadm's `InternalIP,ExternalIP,Hostname`.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

/// The stream server's address, as every node's is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletAddress {
    pub host: KubeletHost,
    pub port: u16,
    /// In which every node has a name, for clients that know it by its address alone.
    pub domain: Option<Arc<str>>,
}

/// A host as node objects name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeletHost {
    /// Found by API servers that prefer `InternalIP` to `Hostname`.
    Ip(IpAddr),
    /// Found by all, whatever they prefer: no address of the node itself is left.
    Name(Arc<str>),
}

impl KubeletHost {
    /// Reads an IP address or a DNS name (RFC 1123); `None` if the text is neither, or an address of nobody.
    pub fn parse(text: &str) -> Option<KubeletHost> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return (!ip.is_unspecified()).then_some(KubeletHost::Ip(ip));
        }
        is_dns_name(text).then(|| KubeletHost::Name(text.into()))
    }
}

/// True for a DNS name (RFC 1123).
pub fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels: Vec<&str> = text.split('.').collect();
    // What ends with digits is an address with a mistake in it.
    let is_number = labels.last().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && labels.iter().all(|label| is_label(label)) && !is_number
}

impl KubeletAddress {
    /// Puts it in the place of what a node says of itself, in the object or in a patch of it. What it does not say is not added.
    pub(super) fn put(&self, name: &str, node: &mut Value) {
        let Some(status) = node.get_mut("status").and_then(Value::as_object_mut) else { return };
        status.insert("daemonEndpoints".to_owned(), json!({"kubeletEndpoint": {"Port": self.port}}));
        let Some(addresses) = status.get_mut("addresses").and_then(Value::as_array_mut) else { return };
        match &self.host {
            KubeletHost::Ip(ip) => {
                addresses.retain(|address| address["type"] != "InternalIP");
                addresses.insert(0, json!({"type": "InternalIP", "address": ip.to_string()}));
            }
            KubeletHost::Name(name) => {
                // What is left is the instruction of a patch.
                addresses.retain(|address| address.get("type").is_none());
                addresses
                    .extend(["InternalDNS", "Hostname"].map(|kind| json!({"type": kind, "address": **name})));
            }
        }
        if let Some(domain) = &self.domain {
            addresses.retain(|address| address["type"] != "InternalDNS");
            addresses.push(json!({"type": "InternalDNS", "address": format!("{name}.{domain}")}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(host: &str, mut node: Value) -> Value {
        put_in(host, None, &mut node);
        node
    }

    fn put_in(host: &str, domain: Option<&str>, node: &mut Value) {
        let domain = domain.map(Into::into);
        KubeletAddress { host: KubeletHost::parse(host).unwrap(), port: 10003, domain }.put("n", node);
    }

    #[test]
    fn a_node_has_a_name_of_its_own_in_the_domain() {
        for (host, first) in [("10.0.0.9", "InternalIP"), ("cloud.example.com", "Hostname")] {
            let mut node = json!({"status": {"addresses": own()}});
            for _ in 0..2 {
                put_in(host, Some("edges.example"), &mut node);
                let addresses = node["status"]["addresses"].as_array().unwrap();
                let of = |kind: &str| -> Vec<&Value> {
                    let found = addresses.iter().filter(|address| address["type"] == kind);
                    found.map(|address| &address["address"]).collect()
                };
                assert_eq!(of("InternalDNS"), ["n.edges.example"], "{host}");
                assert_eq!(of(first), [host]);
            }
        }
    }

    fn own() -> Value {
        json!([{"$patch": "replace"}, {"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.168.0.2"},
            {"type": "InternalIP", "address": "fd00::2"}])
    }

    #[test]
    fn the_stream_server_takes_the_place_of_the_nodes_own_address() {
        let endpoints = json!({"kubeletEndpoint": {"Port": 10003}});
        let told = json!({"metadata": {"name": "n"}, "status": {"addresses": own(), "phase": "x"}});
        let expected = json!([{"type": "InternalIP", "address": "10.0.0.9"}, {"$patch": "replace"},
            {"type": "Hostname", "address": "n"}]);
        assert_eq!(
            put("10.0.0.9", told)["status"],
            json!({"addresses": expected, "daemonEndpoints": endpoints, "phase": "x"})
        );
        for host in ["10.0.0.9", "cloud.example.com"] {
            assert_eq!(put(host, json!({"status": {}})), json!({"status": {"daemonEndpoints": endpoints}}));
            assert_eq!(put(host, json!({"metadata": {}})), json!({"metadata": {}}));
        }
    }

    #[test]
    fn a_dns_name_is_what_an_api_server_finds_whatever_it_prefers() {
        let node = put("cloud.example.com", json!({"status": {"addresses": own()}}));
        let addresses = node["status"]["addresses"].as_array().unwrap();
        assert_eq!(addresses[0], json!({"$patch": "replace"}));
        for order in [
            "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP",
            "InternalIP,ExternalIP,Hostname",
            "InternalDNS,Hostname",
        ] {
            let first =
                order.split(',').find_map(|kind| addresses.iter().find(|address| address["type"] == kind));
            assert_eq!(first.unwrap()["address"], "cloud.example.com", "{order}");
        }
    }

    #[test]
    fn what_is_neither_an_address_nor_a_name_is_refused() {
        assert_eq!(KubeletHost::parse("fd00::9"), Some(KubeletHost::Ip("fd00::9".parse().unwrap())));
        assert!(matches!(KubeletHost::parse("cloudcore-internal"), Some(KubeletHost::Name(_))));
        for wrong in [
            "",
            "0.0.0.0",
            "::",
            "10.0.0.256",
            "Cloud.example.com",
            "a..b",
            "-a",
            "a_b",
            "h:10003",
            "https://h",
        ] {
            assert_eq!(KubeletHost::parse(wrong), None, "{wrong}");
        }
    }
}
