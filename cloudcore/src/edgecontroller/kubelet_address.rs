//! Where API servers reach the kubelet of a node: at the stream server, for nodes that only CloudCore can reach.

use std::net::IpAddr;

use serde_json::{Value, json};

/// The stream server's address, as every node's is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeletAddress {
    pub ip: IpAddr,
    pub port: u16,
}

impl KubeletAddress {
    /// Puts it in the place of what a node says of itself, in the object or in a patch of it. What it does not say is not added.
    pub(super) fn put(&self, node: &mut Value) {
        let Some(status) = node.get_mut("status").and_then(Value::as_object_mut) else { return };
        status.insert("daemonEndpoints".to_owned(), json!({"kubeletEndpoint": {"Port": self.port}}));
        let Some(addresses) = status.get_mut("addresses").and_then(Value::as_array_mut) else { return };
        addresses.retain(|address| address["type"] != "InternalIP");
        addresses.insert(0, json!({"type": "InternalIP", "address": self.ip.to_string()}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_server_takes_the_place_of_the_nodes_own_address() {
        let address = KubeletAddress { ip: IpAddr::from([10, 0, 0, 9]), port: 10003 };
        let put = |mut node: Value| {
            address.put(&mut node);
            node
        };
        let endpoints = json!({"kubeletEndpoint": {"Port": 10003}});
        let addresses = json!([{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.168.0.2"},
            {"type": "InternalIP", "address": "fd00::2"}]);
        let told = json!({"metadata": {"name": "n"}, "status": {"addresses": addresses, "phase": "x"}});
        let expected =
            json!([{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": "n"}]);
        assert_eq!(
            put(told)["status"],
            json!({"addresses": expected, "daemonEndpoints": endpoints, "phase": "x"})
        );
        assert_eq!(put(json!({"status": {}})), json!({"status": {"daemonEndpoints": endpoints}}));
        assert_eq!(put(json!({"metadata": {}})), json!({"metadata": {}}));
    }
}
