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
#[derive(Clone, Copy)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) when: &'a Switch,
    pub(crate) number: &'a Value,
    of: Of<'a>,
    service: &'a Value,
}

/// Which Service has a port.
#[derive(Clone, Copy)]
enum Of<'a> {
    /// That for edges, at this port of the cluster's nodes.
    Edges(&'a Value),
    Internal,
    Webhooks,
}

/// All ports but that of health and metrics.
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
            of: Of::Internal,
            service: &ports.stream,
        },
        Port {
            name: "webhooks",
            protocol: "TCP",
            when: &values.webhooks,
            number: &ports.webhooks,
            of: Of::Webhooks,
            service: &ports.webhooks,
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
        Port { name, protocol, when, number, of: Of::Edges(node), service: number }
    }

    fn of_service(&self, values: &Values) -> Option<Value> {
        let mut port = json!({
            "name": self.name, "port": self.service, "protocol": self.protocol, "targetPort": self.name,
        });
        if let Of::Edges(node) = self.of {
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
        Document::new("service-webhooks", webhooks(values)).when(&values.webhooks),
        Document::new("networkpolicy", network_policy(values)).when(policy),
        Document::new("servicemonitor", service_monitor(values, labels, interval)).when(monitor),
    ]
}

fn edges(values: &Values) -> Value {
    let mut metadata = values.metadata(NAME, Some(NAMESPACE));
    metadata["annotations"] = values.service_annotations.clone();
    let ports = ports(values);
    let ports = ports.iter().filter(|port| matches!(port.of, Of::Edges(_)));
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
    let streams = ports.iter().filter(|port| matches!(port.of, Of::Internal));
    let ports = streams.filter_map(|port| port.of_service(values)).chain([monitor]);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "selector": selector(), "ports": ports.collect::<Value>()},
    })
}

/// API servers call it by this name, which is that of the certificate.
fn webhooks(values: &Values) -> Value {
    let mut metadata = values.metadata(crate::webhooks::NAME, Some(NAMESPACE));
    metadata["labels"][COMPONENT] = json!("webhooks");
    let ports = ports(values);
    let ports = ports.iter().filter(|port| matches!(port.of, Of::Webhooks));
    // The whole Service depends on the switch.
    let ports = ports.filter_map(|port| Port { when: &Switch::On, ..*port }.of_service(values));
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
