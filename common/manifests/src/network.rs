//! How edges, API servers and Prometheus reach the pods, and who does not.

use serde_json::{Value, json};

use crate::document::{Document, part, put};
use crate::values::selector;
use crate::{NAME, NAMESPACE, Switch, Values};

/// The Service inside of the cluster: streams for API servers, metrics.
pub(crate) const INTERNAL: &str = "cloudcore-internal";
/// Port of health and metrics.
pub(crate) const MONITOR: u16 = 9091;

/// A port of the pods.
pub(crate) struct Port<'a> {
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) when: &'a Switch,
    pub(crate) number: &'a Value,
    node: Option<&'a Value>,
    service: &'a Value,
}

/// All ports but that of health and metrics. Those with a port of the nodes are for edges.
pub(crate) fn ports(values: &Values) -> Vec<Port<'_>> {
    let ports = &values.ports;
    vec![
        Port::edge("cloudhub", "TCP", &Switch::On, &ports.hub),
        Port::edge("cloudhub-quic", "UDP", &values.quic, &ports.quic),
        Port::edge("cloudhub-https", "TCP", &Switch::On, &ports.https),
        Port { service: &ports.common_service, ..Port::edge("common", "TCP", &values.common, &ports.common) },
        Port::edge("tunnel", "TCP", &values.streams, &ports.tunnel),
        Port {
            name: "stream",
            protocol: "TCP",
            when: &values.streams,
            number: &ports.stream,
            node: None,
            service: &ports.stream,
        },
    ]
}

impl<'a> Port<'a> {
    fn edge(
        name: &'static str,
        protocol: &'static str,
        when: &'a Switch,
        [number, node]: &'a [Value; 2],
    ) -> Port<'a> {
        Port { name, protocol, when, number, node: Some(node), service: number }
    }

    fn of_service(&self, values: &Values) -> Option<Value> {
        let mut port = json!({
            "name": self.name, "port": self.service, "protocol": self.protocol, "targetPort": self.name,
        });
        if let Some(node) = self.node {
            put(&mut port, "nodePort", &values.node_ports, node.clone());
        }
        part(self.when, port)
    }
}

pub(crate) fn documents(values: &Values) -> Vec<Document> {
    let (policy, (monitor, labels, interval)) = (&values.policy, &values.monitor);
    vec![
        Document::new("service", edges(values)),
        Document::new("service-internal", internal(values)),
        Document::new("networkpolicy", network_policy(values)).when(policy),
        Document::new("servicemonitor", service_monitor(values, labels, interval)).when(monitor),
    ]
}

fn edges(values: &Values) -> Value {
    let mut metadata = values.metadata(NAME, Some(NAMESPACE));
    metadata["annotations"] = values.service_annotations.clone();
    let ports = ports(values);
    let ports = ports.iter().filter(|port| port.node.is_some());
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": values.service_type,
            "selector": selector(),
            "ports": ports.filter_map(|port| port.of_service(values)).collect::<Value>(),
        },
    })
}

fn internal(values: &Values) -> Value {
    let mut metadata = values.metadata(INTERNAL, Some(NAMESPACE));
    metadata["labels"][COMPONENT] = json!("internal");
    let monitor = json!({"name": "monitor", "port": MONITOR, "protocol": "TCP", "targetPort": "monitor"});
    let ports = ports(values);
    let streams = ports.iter().filter(|port| port.node.is_none());
    let ports = streams.filter_map(|port| port.of_service(values)).chain([monitor]);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "selector": selector(), "ports": ports.collect::<Value>()},
    })
}

/// Tells this Service from that of the edges.
const COMPONENT: &str = "app.kubernetes.io/component";

/// What asks for a certificate is open to all, health and metrics to those who are named.
fn network_policy(values: &Values) -> Value {
    let ports = ports(values);
    let open = ports
        .iter()
        .filter_map(|port| part(port.when, json!({"port": port.number, "protocol": port.protocol})));
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": values.metadata(NAME, Some(NAMESPACE)),
        "spec": {
            "podSelector": {"matchLabels": selector()},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": open.collect::<Value>()},
                {"from": values.monitor_from, "ports": [{"port": MONITOR, "protocol": "TCP"}]},
            ],
        },
    })
}

fn service_monitor(values: &Values, labels: &Value, interval: &Value) -> Value {
    let mut metadata = values.metadata(NAME, Some(NAMESPACE));
    for (label, value) in labels.as_object().into_iter().flatten() {
        metadata["labels"][label] = value.clone();
    }
    let mut selected = selector();
    selected[COMPONENT] = json!("internal");
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": selected},
            "endpoints": [{"port": "monitor", "path": "/metrics", "interval": interval}],
        },
    })
}
