//! Services: defaults, and the part of `ValidateService` that catches common mistakes. Addresses and ports of the cluster are
//! not given out here.

use serde_json::{Map, Value, json};

use crate::object::{as_map, integer, list, map_in, maps_in, set_default, text};
use crate::{Cause, names};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// Seconds that a client stays with one endpoint.
const AFFINITY: i64 = 10_800;

/// Completes a service.
pub fn complete(service: &mut Value) {
    let spec = map_in(as_map(service), "spec");
    set_default(spec, "type", "ClusterIP");
    set_default(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        let client = map_in(map_in(spec, "sessionAffinityConfig"), "clientIP");
        set_default(client, "timeoutSeconds", AFFINITY);
    }
    for port in maps_in(spec, "ports") {
        set_default(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            // Go writes its zero where nothing was said.
            if port.get("targetPort").is_some_and(|target| *target == json!(0) || *target == json!("")) {
                port.remove("targetPort");
            }
            set_default(port, "targetPort", number);
        }
    }
    if spec["type"] == "ExternalName" {
        return;
    }
    set_default(spec, "internalTrafficPolicy", "Cluster");
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        set_default(spec, "externalTrafficPolicy", "Cluster");
    }
    addresses(spec);
}

/// `clusterIP` and the first of `clusterIPs` are the same thing.
fn addresses(spec: &mut Map<String, Value>) {
    if let Some(one) = spec.get("clusterIP").filter(|one| one.as_str().is_some_and(|one| !one.is_empty())) {
        let all = json!([one]);
        set_default(spec, "clusterIPs", all);
    }
    set_default(spec, "ipFamilyPolicy", "SingleStack");
    set_default(spec, "ipFamilies", json!(["IPv4"]));
}

/// What is wrong with a service, its defaults filled in.
pub fn problems(service: &Value) -> Vec<Cause> {
    let spec = &service["spec"];
    let mut causes = Vec::new();
    let kind = text(spec, "/type");
    if !TYPES.contains(&kind) {
        causes.push(Cause::unsupported("spec.type", &json!(kind), &TYPES));
    }
    if kind == "ExternalName" && text(spec, "/externalName").is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    }
    let affinity = text(spec, "/sessionAffinity");
    if !matches!(affinity, "None" | "ClientIP") {
        causes.push(Cause::unsupported("spec.sessionAffinity", &json!(affinity), &["ClientIP", "None"]));
    }
    for (key, value) in spec["selector"].as_object().into_iter().flatten() {
        let wrong = names::qualified(key).map(|why| (json!(key), why));
        let value = value.as_str().unwrap_or_default();
        let wrong = wrong.or_else(|| names::label_value(value).map(|why| (json!(value), why)));
        causes.extend(wrong.map(|(value, why)| Cause::invalid("spec.selector", &value, &why)));
    }
    ports(spec, kind, &mut causes);
    causes
}

fn ports(spec: &Value, kind: &str, causes: &mut Vec<Cause>) {
    let ports = list(spec, "/ports");
    if ports.is_empty() && text(spec, "/clusterIP") != "None" && kind != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (at, port) in ports.iter().enumerate() {
        if ports.len() > 1 && text(port, "/name").is_empty() {
            causes.push(Cause::required(format!("spec.ports[{at}].name"), ""));
        }
        if !integer(port, "/port").is_some_and(|port| (1..=65_535).contains(&port)) {
            let detail = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("spec.ports[{at}].port"), &port["port"], detail));
        }
        let protocol = text(port, "/protocol");
        let protocols = ["SCTP", "TCP", "UDP"];
        if !protocols.contains(&protocol) {
            let field = format!("spec.ports[{at}].protocol");
            causes.push(Cause::unsupported(field, &json!(protocol), &protocols));
        }
        let range = 30_000..=32_767;
        if integer(port, "/nodePort").is_some_and(|port| port != 0 && !range.contains(&port)) {
            let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            causes.push(Cause::invalid(format!("spec.ports[{at}].nodePort"), &port["nodePort"], detail));
        }
    }
}

/// What an update must not have changed: an address, once there is one, unless the type changes to one without.
pub fn changes(old: &Value, new: &Value) -> Vec<Cause> {
    let (before, now) = (text(old, "/spec/clusterIP"), text(new, "/spec/clusterIP"));
    let external = [old, new].iter().any(|service| text(service, "/spec/type") == "ExternalName");
    if before.is_empty() || before == now || external {
        return vec![];
    }
    vec![Cause::invalid("spec.clusterIPs[0]", &json!([now]), "may not change once set")]
}

/// Puts back the addresses that an update leaves out.
pub fn keep(old: &Value, new: &mut Value) {
    if text(new, "/spec/type") == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs"] {
        if let (None, Some(value)) = (new["spec"].get(field), old["spec"].get(field)) {
            new["spec"][field] = value.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(spec: Value) -> Value {
        let mut service = json!({"spec": spec});
        complete(&mut service);
        service
    }

    #[test]
    fn defaults_twice_change_nothing() {
        for kind in TYPES {
            let once = completed(json!({"type": kind, "clusterIP": "None", "ports": [{"port": 1}]}));
            let mut twice = once.clone();
            complete(&mut twice);
            assert_eq!(once, twice, "{kind}");
        }
    }

    #[test]
    fn a_port_that_names_no_target_is_its_own() {
        for target in [Value::Null, json!(0), json!("")] {
            let service = completed(json!({"ports": [{"port": 80, "targetPort": target}]}));
            assert_eq!(service["spec"]["ports"][0]["targetPort"], 80);
        }
    }

    #[test]
    fn each_mistake_is_named_by_its_field() {
        let wrong = completed(json!({"type": "Magic", "sessionAffinity": "Some", "selector": {"a": "b c"},
            "ports": [{"port": 0, "protocol": "X", "nodePort": 80}]}));
        let fields: Vec<String> = problems(&wrong).into_iter().map(|cause| cause.field).collect();
        let wanted = [
            "spec.type",
            "spec.sessionAffinity",
            "spec.selector",
            "spec.ports[0].port",
            "spec.ports[0].protocol",
            "spec.ports[0].nodePort",
        ];
        assert_eq!(fields, wanted);
        assert_eq!(problems(&completed(json!({"type": "ExternalName"})))[0].field, "spec.externalName");
        assert!(problems(&completed(json!({"clusterIP": "None"}))).is_empty());
    }

    #[test]
    fn an_address_stays() {
        let old = completed(json!({"clusterIP": "10.0.0.1", "ports": [{"port": 1}]}));
        let mut new = completed(json!({"ports": [{"port": 2}]}));
        keep(&old, &mut new);
        assert!(changes(&old, &new).is_empty());
        assert_eq!(changes(&old, &completed(json!({"clusterIP": "None"}))).len(), 1);
    }
}
