//! Addresses and node ports of services: each is given out once (`pkg/registry/core/service/storage/alloc.go`).
//!
//! What is taken is what stored services have, followed in commit order; an address on its way into storage is reserved until
//! its write has ended. Nothing else is remembered, so a restart and a dry run lose nothing.

mod range;
mod taken;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apimachinery::Cause;
use apimachinery::object::{as_map, integer, list, maps_in, text};
use kubeapi::stored::Key;
use serde_json::{Map, Value, json};

pub use range::{NotARange, ServiceRange};
use taken::Taken;

/// The key of services.
pub(crate) const SERVICES: &str = "services";
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

#[derive(Default)]
pub(crate) struct Addresses {
    range: ServiceRange,
    taken: Arc<Mutex<Taken>>,
}

/// Addresses and ports that nobody else is given while it lives.
#[must_use]
pub(crate) struct Reserved {
    taken: Arc<Mutex<Taken>>,
    addresses: Vec<u32>,
    ports: Vec<u16>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.taken).release(&self.addresses, &self.ports);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Addresses {
    pub(crate) fn new(range: ServiceRange) -> Addresses {
        Addresses { range, taken: Arc::default() }
    }

    pub(crate) fn range(&self) -> ServiceRange {
        self.range
    }

    /// The first of the range, which the API itself has.
    pub(crate) fn first(&self) -> String {
        self.range.first().to_string()
    }

    /// Takes note of a service as it is stored; `None`: it is gone.
    pub(crate) fn set(&self, key: &Key, service: Option<&Value>) {
        let spec = service.map(|service| &service["spec"]);
        let address = spec.and_then(|spec| text(spec, "/clusterIP").parse::<std::net::Ipv4Addr>().ok());
        let ports = spec.map(|spec| list(spec, "/ports").iter().filter_map(node_port).collect());
        lock(&self.taken).set(key, address.map(u32::from), ports.unwrap_or_default());
    }

    /// Gives a service what its type needs and takes from it what its type has not. `old`: as it is stored.
    ///
    /// # Errors
    /// What it asks for is not free, or not of this cluster.
    pub(crate) fn assign(&self, old: Option<&Value>, service: &mut Value) -> Result<Reserved, Vec<Cause>> {
        let mut reserved = Reserved { taken: self.taken.clone(), addresses: vec![], ports: vec![] };
        let nothing = Value::Null;
        let old = old.map_or(&nothing, |old| &old["spec"]);
        let Some(spec) = as_map(service).get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(reserved);
        };
        let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut taken = lock(&self.taken);
        match kind.as_str() {
            "ExternalName" => without_address(spec),
            _ => self.address(&mut taken, &mut reserved, old, spec)?,
        }
        let has_ports = match kind.as_str() {
            "NodePort" => true,
            "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts") != Some(&json!(false)),
            _ => false,
        };
        match has_ports {
            true => node_ports(&mut taken, &mut reserved, old, spec)?,
            false if kind != "LoadBalancer" => without_node_ports(old, spec),
            false => {}
        }
        drop(taken);
        Ok(reserved)
    }

    fn address(
        &self,
        taken: &mut Taken,
        reserved: &mut Reserved,
        old: &Value,
        spec: &mut Map<String, Value>,
    ) -> Result<(), Vec<Cause>> {
        let wanted = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if wanted == "None" || (!wanted.is_empty() && wanted == text(old, "/clusterIP")) {
            return Ok(());
        }
        let refused = |why: &str| {
            let detail = format!("failed to allocate IP {wanted}: {why}");
            vec![Cause::invalid("spec.clusterIPs", &json!([wanted]), &detail)]
        };
        let address = if wanted.is_empty() {
            let free = self.range.free(|address| !taken.has_address(address));
            free.ok_or_else(|| refused("range is full"))?
        } else {
            let address =
                wanted.parse::<std::net::Ipv4Addr>().map_err(|_| refused("it is no IPv4 address"))?;
            let address = u32::from(address);
            if !self.range.holds(address) {
                let range = &self.range;
                return Err(refused(&format!(
                    "the provided network does not match the current range: the provided IP ({wanted}) is not in the valid range. \
                     The range of valid IPs is {range}"
                )));
            }
            if taken.has_address(address) {
                return Err(refused("provided IP is already allocated"));
            }
            address
        };
        taken.reserve_address(address);
        reserved.addresses.push(address);
        let text = std::net::Ipv4Addr::from(address).to_string();
        spec.insert("clusterIPs".to_owned(), json!([text]));
        spec.insert("clusterIP".to_owned(), json!(text));
        Ok(())
    }
}

fn node_port(port: &Value) -> Option<u16> {
    integer(port, "/nodePort").filter(|port| *port != 0).and_then(|port| u16::try_from(port).ok())
}

fn node_ports(
    taken: &mut Taken,
    reserved: &mut Reserved,
    old: &Value,
    spec: &mut Map<String, Value>,
) -> Result<(), Vec<Cause>> {
    let before = list(old, "/ports").to_vec();
    let own: Vec<u16> = before.iter().filter_map(node_port).collect();
    let same =
        |one: &Value, other: &Value| one["port"] == other["port"] && one["protocol"] == other["protocol"];
    for (at, port) in maps_in(spec, "ports").enumerate() {
        let as_value = Value::Object(port.clone());
        let kept = || before.iter().find(|old| same(old, &as_value)).and_then(node_port);
        let number = match node_port(&as_value).or_else(kept) {
            // Of this service already, or the same number for another protocol.
            Some(number) if own.contains(&number) || reserved.ports.contains(&number) => number,
            Some(number) if taken.has_port(number) => {
                let field = format!("spec.ports[{at}].nodePort");
                return Err(vec![Cause::invalid(
                    field,
                    &json!(number),
                    "provided port is already allocated",
                )]);
            }
            Some(number) => number,
            None => {
                match range::some_port(NODE_PORTS, |number| !taken.has_port(number) && !own.contains(&number))
                {
                    Some(number) => number,
                    None => {
                        let field = format!("spec.ports[{at}].nodePort");
                        return Err(vec![Cause::invalid(
                            field,
                            &json!(0),
                            "failed to allocate a nodePort: range is full",
                        )]);
                    }
                }
            }
        };
        if !own.contains(&number) && !reserved.ports.contains(&number) {
            taken.reserve_port(number);
            reserved.ports.push(number);
        }
        port.insert("nodePort".to_owned(), json!(number));
    }
    Ok(())
}

/// Takes off what a service of another type had: what its maker changed beside stays, and is refused by its own rules.
fn without_node_ports(old: &Value, spec: &mut Map<String, Value>) {
    let own: Vec<u16> = list(old, "/ports").iter().filter_map(node_port).collect();
    for port in maps_in(spec, "ports") {
        let number = node_port(&Value::Object(port.clone()));
        if number.is_none_or(|number| own.contains(&number)) {
            port.remove("nodePort");
        }
    }
    for field in ["externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts"] {
        if spec.get(field) == old.get(field) {
            spec.remove(field);
        }
    }
}

fn without_address(spec: &mut Map<String, Value>) {
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
        spec.remove(field);
    }
}

#[cfg(test)]
mod tests;
