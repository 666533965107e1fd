//! Names and addresses of a pod: hostname, hosts file, DNS (docs/protocol/edge-runtime.md 5.14). Pure.

use cri::v1;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use nodebase::Settings;

/// The pod's host name: `spec.hostname`, or its name cut to 63 characters.
pub fn hostname(pod: &Pod, spec: &PodSpec) -> String {
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let name = name.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// `<hostname>.<subdomain>.<namespace>.svc.<domain>`, if the pod has a subdomain.
pub fn fqdn(pod: &Pod, spec: &PodSpec, domain: &str) -> Option<String> {
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    Some(format!("{}.{subdomain}.{namespace}.svc.{domain}", hostname(pod, spec)))
}

/// What the kernel calls the pod: its host name, or all of its name if it wants that. The kernel takes 64 characters;
/// the runtime refuses a longer one.
pub fn kernel_hostname(pod: &Pod, spec: &PodSpec, domain: &str) -> String {
    let whole = spec.set_hostname_as_fqdn == Some(true);
    let fqdn = fqdn(pod, spec, domain).filter(|_| whole);
    fqdn.unwrap_or_else(|| hostname(pod, spec))
}

/// The managed `/etc/hosts`. `host_file` is the node's own, for pods in its network.
pub fn hosts_file(pod: &Pod, spec: &PodSpec, domain: &str, ips: &[String], host_file: &str) -> String {
    let mut text = match spec.host_network == Some(true) {
        true => format!("# Kubernetes-managed hosts file (host network).\n{host_file}"),
        false => concat!(
            "# Kubernetes-managed hosts file.\n",
            "127.0.0.1\tlocalhost\n",
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n",
            "fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        )
        .to_owned(),
    };
    if spec.host_network != Some(true) {
        let names = match fqdn(pod, spec, domain) {
            Some(fqdn) => format!("{fqdn}\t{}", hostname(pod, spec)),
            None => hostname(pod, spec),
        };
        text.extend(ips.iter().map(|ip| format!("{ip}\t{names}\n")));
    }
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.as_deref().unwrap_or_default().join("\t")
        ));
    }
    text
}

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// Name servers, search domains and options. `resolv` is the text of the node's resolv.conf.
pub fn dns(pod: &Pod, spec: &PodSpec, settings: &Settings, resolv: &str) -> v1::DnsConfig {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !host_network,
        _ => false,
    };
    let mut dns = match policy {
        "None" => v1::DnsConfig::default(),
        _ => read_resolv(resolv),
    };
    if cluster && !settings.cluster_dns.is_empty() {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let domain = &settings.cluster_domain;
        dns.servers = settings.cluster_dns.iter().map(ToString::to_string).collect();
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        dns.searches = own.into_iter().chain(dns.searches).collect();
        dns.options = vec!["ndots:5".to_owned()];
    }
    if let Some(config) = &spec.dns_config {
        dns.servers.extend(config.nameservers.iter().flatten().cloned());
        dns.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            dns.options.retain(|known| known.split(':').next() != Some(name.as_str()));
            dns.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    unique(&mut dns.servers, MAX_SERVERS);
    unique(&mut dns.searches, MAX_SEARCHES);
    dns
}

fn unique(list: &mut Vec<String>, limit: usize) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list.truncate(limit);
}

/// The name servers a resolv.conf names.
pub fn name_servers(text: &str) -> Vec<String> {
    read_resolv(text).servers
}

fn read_resolv(text: &str) -> v1::DnsConfig {
    let mut dns = v1::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let key = words.next();
        let values = words.map(str::to_owned);
        match key {
            Some("nameserver") => dns.servers.extend(values.take(1)),
            Some("search" | "domain") => dns.searches = values.filter(|domain| domain != ".").collect(),
            Some("options") => dns.options = values.collect(),
            _ => {}
        }
    }
    dns
}

/// Host ports of all containers.
pub fn port_mappings(spec: &PodSpec) -> Vec<v1::PortMapping> {
    let ports = podmodel::spec::all_containers(spec).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|_| spec.host_network != Some(true))
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp,
                Some("SCTP") => v1::Protocol::Sctp,
                _ => v1::Protocol::Tcp,
            };
            Some(v1::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port,
                host_ip: port.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> (Pod, PodSpec) {
        let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let spec = pod.spec.clone().unwrap();
        (pod, spec)
    }

    #[test]
    fn a_pod_with_a_subdomain_has_a_full_name_in_its_hosts_file() {
        let (pod, spec) = pod(json!({"hostname": "h", "subdomain": "s", "containers": [],
            "hostAliases": [{"ip": "10.1.1.1", "hostnames": ["x", "y"]}]}));
        let text = hosts_file(&pod, &spec, "cluster.local", &["10.0.0.5".into()], "");
        assert!(text.contains("10.0.0.5\th.s.d.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("10.1.1.1\tx\ty\n"));
    }

    #[test]
    fn the_kernel_knows_the_whole_name_if_the_pod_wants_that() {
        let name = |spec| {
            let (pod, spec) = pod(spec);
            kernel_hostname(&pod, &spec, "cluster.local")
        };
        let base = json!({"hostname": "h", "subdomain": "s", "containers": []});
        assert_eq!(name(base), "h");
        let whole = json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true, "containers": []});
        assert_eq!(name(whole), "h.s.d.svc.cluster.local");
        assert_eq!(name(json!({"setHostnameAsFQDN": true, "containers": []})), "p");
    }

    #[test]
    fn cluster_first_puts_the_cluster_before_the_node() {
        let mut settings = Settings::with_defaults(message::NodeName::new("e").unwrap());
        let resolv = "nameserver 9.9.9.9\nsearch lan\n";
        let (first, spec) =
            pod(json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}));
        let without = dns(&first, &spec, &settings, resolv);
        assert_eq!((without.servers, without.searches), (vec!["9.9.9.9".to_owned()], vec!["lan".to_owned()]));
        settings.cluster_dns = vec!["169.254.96.16".parse().unwrap()];
        let with = dns(&first, &spec, &settings, resolv);
        assert_eq!(with.servers, ["169.254.96.16"]);
        assert_eq!(with.searches, ["d.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]);
        assert_eq!(with.options, ["ndots:2"]);
        let (host, spec) = pod(json!({"containers": [], "hostNetwork": true}));
        assert_eq!(dns(&host, &spec, &settings, resolv).servers, ["9.9.9.9"]);
    }
}
