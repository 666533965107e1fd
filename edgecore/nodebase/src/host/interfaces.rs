//! Which of the machine's addresses are the node's. Pure.

use std::net::IpAddr;

/// An address of an interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub interface: String,
    pub ip: IpAddr,
}

/// Beginnings of the names that container networks, overlays and virtual machines give their interfaces.
const OF_CONTAINERS: [&str; 17] = [
    "br-",
    "cali",
    "cbr",
    "cilium",
    "cni",
    "docker",
    "edgemesh",
    "flannel",
    "kube",
    "lxc",
    "lxdbr",
    "nodelocaldns",
    "podman",
    "tunl",
    "veth",
    "virbr",
    "vxlan",
];

/// True if others reach the node by it.
fn is_usable(address: &InterfaceAddress) -> bool {
    let reaches_far = match address.ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let names_containers = OF_CONTAINERS.iter().any(|name| address.interface.starts_with(name));
    reaches_far && !address.ip.is_loopback() && !address.ip.is_unspecified() && !names_containers
}

/// How the node's addresses were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAddresses {
    /// By the configuration, the default routes, or because there is no other: at most one a family.
    Sure(Vec<IpAddr>),
    /// The first of several interfaces without a default route.
    Guessed(Vec<IpAddr>),
    Nothing,
}

/// The addresses of the node, IPv4 first unless `wanted` says otherwise.
///
/// `wanted` is the configuration's: an address, one of each family, or the unspecified one of the family that comes first,
/// as for the kubelet's `--node-ip`. `routed` are the sources of the default routes.
pub fn choose(wanted: &[IpAddr], routed: &[IpAddr], all: &[InterfaceAddress]) -> NodeAddresses {
    if wanted.iter().any(|ip| !ip.is_unspecified()) {
        return NodeAddresses::Sure(wanted.to_vec());
    }
    let v6_first = wanted.first().is_some_and(|ip| ip.is_ipv6());
    let ordered = |mut ips: Vec<IpAddr>| {
        ips.sort_by_key(|ip| ip.is_ipv6() != v6_first);
        ips.dedup_by_key(|ip| ip.is_ipv6());
        ips
    };
    let routed: Vec<IpAddr> = routed.iter().copied().filter(|ip| !ip.is_loopback()).collect();
    if !routed.is_empty() {
        return NodeAddresses::Sure(ordered(routed));
    }
    let usable: Vec<&InterfaceAddress> = all.iter().filter(|address| is_usable(address)).collect();
    let Some(first) = usable.first() else { return NodeAddresses::Nothing };
    let of_first = usable.iter().filter(|address| address.interface == first.interface);
    let ips = ordered(of_first.map(|address| address.ip).collect());
    match usable.iter().all(|address| address.interface == first.interface) {
        true => NodeAddresses::Sure(ips),
        false => NodeAddresses::Guessed(ips),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(list: &[(&str, &str)]) -> Vec<InterfaceAddress> {
        let address = |(interface, text): &(&str, &str)| InterfaceAddress {
            interface: (*interface).to_owned(),
            ip: ip(text),
        };
        list.iter().map(address).collect()
    }

    #[test]
    fn a_machine_without_a_default_route_has_the_address_of_its_one_interface() {
        let all = at(&[
            ("lo", "127.0.0.1"),
            ("cni0", "10.244.0.1"),
            ("veth1a", "fe80::1"),
            ("eth0", "169.254.1.1"),
            ("eth0", "10.77.0.5"),
            ("eth0", "fe80::2"),
            ("eth0", "fd00::5"),
        ]);
        assert_eq!(choose(&[], &[], &all), NodeAddresses::Sure(vec![ip("10.77.0.5"), ip("fd00::5")]));
        let two = at(&[("eth1", "10.1.0.5"), ("eth0", "10.77.0.5")]);
        assert_eq!(choose(&[], &[], &two), NodeAddresses::Guessed(vec![ip("10.1.0.5")]));
        assert_eq!(choose(&[], &[], &at(&[("lo", "127.0.0.1"), ("lo", "::1")])), NodeAddresses::Nothing);
    }

    #[test]
    fn the_configuration_comes_before_routes_and_routes_before_interfaces() {
        let all = at(&[("eth0", "10.77.0.5")]);
        let routed = [ip("192.0.2.9"), ip("2001:db8::9")];
        assert_eq!(choose(&[], &routed, &all), NodeAddresses::Sure(routed.to_vec()));
        assert_eq!(choose(&[ip("2001:db8::7")], &routed, &all), NodeAddresses::Sure(vec![ip("2001:db8::7")]));
        let pair = [ip("10.77.0.5"), ip("fd00::5")];
        assert_eq!(choose(&pair, &routed, &all), NodeAddresses::Sure(pair.to_vec()));
        let turned = vec![ip("2001:db8::9"), ip("192.0.2.9")];
        assert_eq!(choose(&[ip("::")], &routed, &all), NodeAddresses::Sure(turned));
        assert_eq!(
            choose(&[ip("0.0.0.0")], &routed[1..], &all),
            NodeAddresses::Sure(vec![ip("2001:db8::9")])
        );
    }
}
