//! Bytes and errors of network interfaces, from `/proc/<pid>/net`.

use jiff::Timestamp;

use super::summary::{Interface, Network};
use nodebase::host::Host;

/// The interface the CNI gives a pod.
const POD_INTERFACE: &str = "eth0";

/// The node's own interfaces; those of its pods' other ends are left out.
pub(super) fn of_node(host: &dyn Host, now: Timestamp) -> Option<Network> {
    let interfaces = parse(&host.text("/proc/net/dev").ok()?);
    let route = host.text("/proc/net/route").unwrap_or_default();
    Some(network(interfaces, default_interface(&route), now))
}

/// What the pod of this process sent and received.
pub(super) fn of_process(host: &dyn Host, pid: u32, now: Timestamp) -> Option<Network> {
    let interfaces = parse(&host.text(&format!("/proc/{pid}/net/dev")).ok()?);
    Some(network(interfaces, Some(POD_INTERFACE.to_owned()), now))
}

fn network(interfaces: Vec<Interface>, default: Option<String>, now: Timestamp) -> Network {
    let default = interfaces.iter().find(|interface| Some(&interface.name) == default.as_ref()).cloned();
    Network { time: now, default, interfaces }
}

/// The interface of the route to everywhere.
fn default_interface(routes: &str) -> Option<String> {
    let mut words = routes.lines().skip(1).map(str::split_whitespace);
    words.find_map(|mut words| {
        let name = words.next()?;
        (words.next()? == "00000000").then(|| name.to_owned())
    })
}

fn parse(text: &str) -> Vec<Interface> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let read = lines.filter_map(|(name, rest)| {
        let numbers: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: *numbers.first()?,
            rx_errors: *numbers.get(2)?,
            tx_bytes: *numbers.get(8)?,
            tx_errors: *numbers.get(10)?,
        })
    });
    read.filter(|interface| interface.name != "lo" && !interface.name.starts_with("veth")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodebase::host::Recorded;

    const DEV: &str = "Inter-|   Receive                 |  Transmit\n \
        face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    \
        lo:  5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  \
        eth0: 100 2 3 0 0 0 0 0 200 4 5 0 0 0 0 0\nveth1: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n";

    #[test]
    fn the_default_interface_stands_out_and_ends_of_pods_are_left_out() {
        let route = "Iface\tDestination\tGateway\neth1\t0000A8C0\t0\neth0\t00000000\t0102A8C0\n";
        let host = Recorded::default()
            .with("/proc/net/dev", DEV)
            .with("/proc/net/route", route)
            .with("/proc/7/net/dev", DEV);
        let network = of_node(&host, Timestamp::UNIX_EPOCH).unwrap();
        let eth0 =
            Interface { name: "eth0".into(), rx_bytes: 100, rx_errors: 3, tx_bytes: 200, tx_errors: 5 };
        assert_eq!((network.default.as_ref(), &network.interfaces), (Some(&eth0), &vec![eth0.clone()]));
        assert_eq!(of_process(&host, 7, Timestamp::UNIX_EPOCH), Some(network));
        assert_eq!(of_process(&host, 8, Timestamp::UNIX_EPOCH), None);
    }
}
