//! Defaults and rules of small kinds: leases, priority and storage classes, volumes and claims, network policies, events
//! (`pkg/apis/*/v1/defaults.go`, `pkg/apis/*/validation`). What a real API server takes is never refused.

mod devices;
mod storage;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::object::{as_map, integer, list, map_in, maps_in, namespace, set_default, text};
use crate::{Cause, apiservice, autoscaling, flow, names, rbac};

/// Completes an object.
pub fn complete(group: &str, plural: &str, object: &mut Value) {
    let map = as_map(object);
    match (group, plural) {
        ("", "persistentvolumes") => volume(map_in(map, "spec")),
        ("", "persistentvolumeclaims") => set_default(map_in(map, "spec"), "volumeMode", "Filesystem"),
        ("scheduling.k8s.io", "priorityclasses") => {
            set_default(map, "preemptionPolicy", "PreemptLowerPriority");
        }
        ("storage.k8s.io", "storageclasses") => {
            set_default(map, "reclaimPolicy", "Delete");
            set_default(map, "volumeBindingMode", "Immediate");
        }
        (flow::GROUP, _) => flow::complete(plural, object),
        (rbac::GROUP, _) => rbac::complete(plural, object),
        ("", "endpoints") => {
            for subset in maps_in(map, "subsets") {
                maps_in(subset, "ports").for_each(|port| set_default(port, "protocol", "TCP"));
            }
        }
        ("discovery.k8s.io", "endpointslices") => {
            for port in maps_in(map, "ports") {
                set_default(port, "name", "");
                set_default(port, "protocol", "TCP");
            }
        }
        ("storage.k8s.io", "csidrivers") => storage::driver(map_in(map, "spec")),
        (apiservice::GROUP, _) => apiservice::complete(map_in(map, "spec")),
        (devices::GROUP, _) => devices::complete(plural, map),
        ("networking.k8s.io", "networkpolicies") => network_policy(map_in(map, "spec")),
        ("autoscaling", "horizontalpodautoscalers") => {
            let spec = map_in(map, "spec");
            set_default(spec, "minReplicas", 1);
            let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
            set_default(spec, "metrics", json!([{"type": "Resource", "resource": cpu}]));
            autoscaling::complete_behaviour(spec);
        }
        _ => {}
    }
}

fn volume(spec: &mut Map<String, Value>) {
    set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
    set_default(spec, "volumeMode", "Filesystem");
    if let Some(Value::Object(path)) = spec.get_mut("hostPath") {
        set_default(path, "type", "");
    }
}

fn network_policy(spec: &mut Map<String, Value>) {
    let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    set_default(spec, "policyTypes", if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    for rules in ["ingress", "egress"] {
        for rule in maps_in(spec, rules) {
            maps_in(rule, "ports").for_each(|port| set_default(port, "protocol", "TCP"));
        }
    }
}

/// The highest value that a priority class may have which is not the system's.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// What is wrong with an object, its defaults filled in.
pub fn problems(group: &str, plural: &str, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    match (group, plural) {
        ("coordination.k8s.io", "leases") => lease(object, &mut causes),
        ("scheduling.k8s.io", "priorityclasses") => {
            let system = text(object, "/metadata/name").starts_with("system-");
            if !system && integer(object, "/value").is_some_and(|value| value > HIGHEST_PRIORITY) {
                let why = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
                causes.push(Cause::forbidden("value", &why));
            }
        }
        ("", "persistentvolumeclaims") => {
            if list(object, "/spec/accessModes").is_empty() {
                causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
            }
            if object.pointer("/spec/resources/requests/storage").is_none() {
                causes.push(Cause::required("spec.resources[storage]", ""));
            }
        }
        ("" | "events.k8s.io", "events") => event(group, object, &mut causes),
        ("autoscaling", "horizontalpodautoscalers") => autoscaler(object, &mut causes),
        (apiservice::GROUP, _) => apiservice::problems(object, &mut causes),
        (flow::GROUP, _) => causes.extend(flow::problems(plural, object)),
        ("networking.k8s.io", "ipaddresses") => ip_address(object, &mut causes),
        ("networking.k8s.io", "servicecidrs") => service_range(object, &mut causes),
        ("storage.k8s.io", "volumeattributesclasses") => storage::attributes(object, &mut causes),
        ("storage.k8s.io", "csistoragecapacities") => storage::capacity(object, &mut causes),
        ("", "nodes") => taints(object, &mut causes),
        ("", "endpoints") => endpoints(object, &mut causes),
        ("discovery.k8s.io", "endpointslices") => slice(object, &mut causes),
        ("networking.k8s.io", "ingresses") => ingress(object, &mut causes),
        _ => {}
    }
    causes
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    for (field, least, why) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        let value = &object["spec"][field];
        if value.as_i64().is_some_and(|number| number < least) {
            causes.push(Cause::invalid(format!("spec.{field}"), value, why));
        }
    }
}

fn event(group: &str, object: &Value, causes: &mut Vec<Cause>) {
    let about = text(object, "/involvedObject/namespace");
    // Of what has no namespace is told in the default one.
    let fits = if about.is_empty() { true } else { about == namespace(object) };
    if !fits {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &json!(about),
            "does not match event.namespace",
        ));
    }
    if object["eventTime"].is_string() {
        whole_event(group, object, causes);
    }
}

/// Events that say when they were seen are of the newer form, and say more.
fn whole_event(group: &str, object: &Value, causes: &mut Vec<Cause>) {
    const LONGEST: usize = 128;
    let controller = if group.is_empty() { "reportingComponent" } else { "reportingController" };
    for (field, shown) in [
        ("reportingComponent", controller),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        let value = text(object, &format!("/{field}"));
        if value.is_empty() {
            causes.push(Cause::required(shown, ""));
        }
        if field == "reportingComponent" {
            causes.extend(names::qualified(value).map(|why| Cause::invalid(shown, &json!(value), &why)));
        } else if value.len() > LONGEST {
            causes.push(Cause::invalid(shown, &json!(""), "can have at most 128 characters"));
        }
    }
    let kind = text(object, "/type");
    if !group.is_empty() && !matches!(kind, "Normal" | "Warning") {
        causes.push(Cause::invalid("type", &json!(""), &format!("has invalid value: {kind}")));
    }
}

fn autoscaler(object: &Value, causes: &mut Vec<Cause>) {
    let number = |field: &str| integer(object, &format!("/spec/{field}"));
    let (least, most) = (number("minReplicas"), number("maxReplicas").unwrap_or(0));
    if least.is_some_and(|least| least < 1) {
        let why = "must be greater than or equal to 1";
        causes.push(Cause::invalid("spec.minReplicas", &json!(least), why));
    }
    if most < 1 {
        causes.push(Cause::required("spec.maxReplicas", "must be set and greater than 0"));
    }
    if least.is_some_and(|least| most < least) {
        let why = "must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", &json!(most), why));
    }
    for field in ["kind", "name"] {
        if text(object, &format!("/spec/scaleTargetRef/{field}")).is_empty() {
            causes.push(Cause::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    let version = text(object, "/spec/scaleTargetRef/apiVersion");
    let is_of_core = text(object, "/spec/scaleTargetRef/kind") == "ReplicationController" && version == "v1";
    if !version.contains('/') && !is_of_core {
        let why = "apiVersion must specify API group";
        causes.push(Cause::invalid("spec.scaleTargetRef.apiVersion", &json!(version), why));
    }
}

/// An address is named by itself and belongs to something (`pkg/apis/networking/validation`).
fn ip_address(object: &Value, causes: &mut Vec<Cause>) {
    let name = text(object, "/metadata/name");
    if name.parse::<IpAddr>().map(|address| address.to_string()).ok().as_deref() != Some(name) {
        causes.push(Cause::invalid(
            "metadata.name",
            &json!(name),
            "must be a valid IP address in canonical form",
        ));
    }
    let parent = &object["spec"]["parentRef"];
    if parent.is_null() {
        return causes.push(Cause::required("spec.parentRef", ""));
    }
    for field in ["resource", "name"] {
        let (path, word) = (format!("spec.parentRef.{field}"), text(parent, &format!("/{field}")));
        match names::path_segment(word) {
            _ if word.is_empty() => causes.push(Cause::required(path, "")),
            Some(why) => causes.push(Cause::invalid(path, &json!(word), &why)),
            None => {}
        }
    }
}

/// One range, or one of each family.
fn service_range(object: &Value, causes: &mut Vec<Cause>) {
    let ranges = list(object, "/spec/cidrs");
    match ranges.len() {
        0 => causes.push(Cause::required("spec.cidrs", "at least one CIDR required")),
        1 | 2 => {}
        _ => causes.push(Cause::invalid("spec.cidrs", &object["spec"], "may only hold up to 2 values")),
    }
    let mut families = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        let read = range.as_str().and_then(|range| range.split_once('/'));
        let read = read.and_then(|(address, bits)| {
            let address = address.parse::<IpAddr>().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            bits.parse::<u8>().ok().filter(|bits| *bits <= most).map(|_| address.is_ipv4())
        });
        match read {
            Some(family) => families.push(family),
            None => {
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                causes.push(Cause::invalid(format!("spec.cidrs[{at}]"), range, why));
            }
        }
    }
    if let [one, other] = families.as_slice()
        && one == other
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        causes.push(Cause::invalid("spec.cidrs", &object["spec"]["cidrs"], why));
    }
}

fn taints(node: &Value, causes: &mut Vec<Cause>) {
    let mut seen = Vec::new();
    for (at, taint) in list(node, "/spec/taints").iter().enumerate() {
        let (key, effect) = (text(taint, "/key"), text(taint, "/effect"));
        // As the real server has it: not below `spec`.
        let field = format!("metadata.taints[{at}]");
        if let Some(why) = names::qualified(key) {
            causes.push(Cause::invalid(format!("{field}.key"), &json!(key), &why));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if effect.is_empty() {
            causes.push(Cause::required(format!("{field}.effect"), ""));
        } else if !effects.contains(&effect) {
            causes.push(Cause::unsupported(format!("{field}.effect"), &json!(effect), &effects));
        }
        if seen.contains(&(key, effect)) {
            causes.push(Cause::duplicate(field, taint));
        }
        seen.push((key, effect));
    }
}

fn endpoints(object: &Value, causes: &mut Vec<Cause>) {
    for (at, subset) in list(object, "/subsets").iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            for (of, address) in list(subset, &format!("/{field}")).iter().enumerate() {
                let place = format!("subsets[{at}].{field}[{of}].ip");
                endpoint(place, text(address, "/ip"), causes);
            }
        }
    }
}

/// An address that is one. Those of the machine itself, which Kubernetes refuses, are taken: webhooks may be there.
fn endpoint(field: String, ip: &str, causes: &mut Vec<Cause>) {
    let Ok(address) = ip.parse::<IpAddr>() else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return causes.push(Cause::invalid(field, &json!(ip), why));
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let why = if address.is_unspecified() {
        format!("may not be unspecified ({address})")
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else {
        return;
    };
    causes.push(Cause::invalid(field, &json!(ip), &why));
}

fn slice(object: &Value, causes: &mut Vec<Cause>) {
    let kind = text(object, "/addressType");
    for (at, item) in list(object, "/endpoints").iter().enumerate() {
        for address in list(item, "/addresses").iter().filter_map(Value::as_str) {
            let fits = match (kind, address.parse::<IpAddr>()) {
                ("IPv4", parsed) => parsed.is_ok_and(|address| address.is_ipv4()),
                ("IPv6", parsed) => parsed.is_ok_and(|address| address.is_ipv6()),
                _ => true,
            };
            if !fits {
                let field = format!("endpoints[{at}].addresses");
                causes.push(Cause::invalid(field, &json!(address), &format!("must be an {kind} address")));
            }
        }
    }
}

fn ingress(object: &Value, causes: &mut Vec<Cause>) {
    for (at, rule) in list(object, "/spec/rules").iter().enumerate() {
        for (of, path) in list(rule, "/http/paths").iter().enumerate() {
            let field = format!("spec.rules[{at}].http.paths[{of}].path");
            let (kind, path) = (text(path, "/pathType"), text(path, "/path"));
            if matches!(kind, "Exact" | "Prefix") && !path.starts_with('/') {
                causes.push(Cause::invalid(field, &json!(path), "must be an absolute path"));
            }
        }
    }
}

/// What an update must not have changed.
pub fn changes(group: &str, plural: &str, old: &Value, new: &Value) -> Vec<Cause> {
    let changed =
        |field: &str| old.get(field).is_some_and(|value| !value.is_null() && new.get(field) != Some(value));
    match (group, plural) {
        ("scheduling.k8s.io", "priorityclasses") => {
            let fixed = ["value", "preemptionPolicy"].into_iter().filter(|field| changed(field));
            fixed.map(|field| Cause::forbidden(field, "may not be changed in an update.")).collect()
        }
        ("storage.k8s.io", "volumeattributesclasses") => {
            let fixed =
                ["driverName", "parameters"].into_iter().filter(|field| old.get(field) != new.get(field));
            fixed
                .map(|field| Cause::forbidden(field, &format!("updates to {field} are forbidden.")))
                .collect()
        }
        ("storage.k8s.io", "csistoragecapacities") => storage::capacity_changes(old, new),
        (devices::GROUP, _) => devices::changes(plural, old, new),
        ("networking.k8s.io", "ipaddresses") if old["spec"]["parentRef"] != new["spec"]["parentRef"] => {
            vec![Cause::invalid("spec.parentRef", &new["spec"]["parentRef"], "field is immutable")]
        }
        ("networking.k8s.io", "servicecidrs") if !widened(old, new) => {
            vec![Cause::invalid("spec.cidrs", &new["spec"]["cidrs"], "field is immutable")]
        }
        ("storage.k8s.io", "storageclasses") if changed("provisioner") => {
            vec![Cause::invalid("provisioner", &new["provisioner"], "field is immutable")]
        }
        ("", "persistentvolumeclaims") => claim_changes(&old["spec"], &new["spec"]),
        ("", "nodes") => {
            let before = text(old, "/spec/providerID");
            if before.is_empty() || before == text(new, "/spec/providerID") {
                return vec![];
            }
            let why = "node updates may not change providerID except from \"\" to valid";
            vec![Cause::forbidden("spec.providerID", why)]
        }
        _ => vec![],
    }
}

/// The first range of a ServiceCIDR stays; a second one may come.
fn widened(old: &Value, new: &Value) -> bool {
    let (before, now) = (list(old, "/spec/cidrs"), list(new, "/spec/cidrs"));
    before == now || (before.len() == 1 && now.len() == 2 && before.first() == now.first())
}

/// A claim is bound once, and grows; nothing else of it changes.
fn claim_changes(old: &Value, new: &Value) -> Vec<Cause> {
    let rest = |spec: &Value| {
        let mut spec = spec.clone();
        let map = as_map(&mut spec);
        map.remove("volumeAttributesClassName");
        if text(old, "/volumeName").is_empty() {
            map.remove("volumeName");
            // One without a class may be given the default one while it waits.
            if old.get("storageClassName").is_none() {
                map.remove("storageClassName");
            }
        }
        if let Some(Value::Object(resources)) = map.get_mut("resources") {
            resources.remove("requests");
        }
        spec
    };
    if rest(old) == rest(new) {
        return vec![];
    }
    let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
        bound claims";
    vec![Cause::forbidden("spec", why)]
}
