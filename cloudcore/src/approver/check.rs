//! Which requests for a serving certificate are a node's own. Pure.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{NODES_GROUP, SigningRequest};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::edgecontroller::SERVING;

/// What common names of nodes begin with.
const NODE: &str = "system:node:";
/// Usages that the signer allows; all but the middle one are needed.
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub node: String,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// True for a request of this signer that nobody has decided on.
pub(super) fn is_pending(request: &Value) -> bool {
    let decided = request["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty());
    request["spec"]["signerName"] == SERVING && !decided && request["status"]["certificate"].is_null()
}

/// # Errors
/// Why it is not a request for a serving certificate of a node.
pub(super) fn read(request: &Value) -> Result<Asked, String> {
    let pem = request["spec"]["request"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let der = pem.and_then(|pem| CertificateSigningRequestDer::from_pem_slice(&pem).ok());
    let der = der.filter(|der| der.len() <= SigningRequest::MAX_BYTES).ok_or("the request is not PEM")?;
    let read = SigningRequest::from_der(&der).map_err(|error| daemon::errors::describe(&error))?;
    let name = read.common_name().unwrap_or_default();
    let node = name.strip_prefix(NODE).filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| format!("the common name {name:?} is no node's"))?;
    if read.organization() != Some(NODES_GROUP) {
        return Err(format!("the organisation is not {NODES_GROUP}"));
    }
    if read.asks_for_other_than_hosts() {
        return Err("it asks for names that are neither hosts nor addresses".to_owned());
    }
    let (names, addresses) = read.hosts();
    if names.is_empty() && addresses.is_empty() {
        return Err("it asks for no name and no address".to_owned());
    }
    let usages: Vec<&str> =
        request["spec"]["usages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let has = |usage: &&str| usages.contains(usage);
    if !usages.iter().all(|usage| USAGES.contains(usage)) || !has(&USAGES[0]) || !has(&USAGES[2]) {
        return Err(format!("the usages {usages:?} are not those of a server"));
    }
    Ok(Asked { node: node.to_owned(), names, addresses })
}

/// Why a request is not approved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It never will be.
    Final(String),
    /// It will be, once its node's object says what the request says.
    NotYet(String),
}

/// # Errors
/// Somebody else made it. `own` is the user that CloudCore is: nodes' requests are made by it.
pub(super) fn is_made_for_its_node(asked: &Asked, request: &Value, own: &str) -> Result<(), Refusal> {
    let by = request["spec"]["username"].as_str().unwrap_or_default();
    if by != format!("{NODE}{}", asked.node) && (own.is_empty() || by != own) {
        return Err(Refusal::Final(format!("{by:?} made it, not node {:?}", asked.node)));
    }
    Ok(())
}

/// # Errors
/// It names what the node's object does not.
pub(super) fn names_its_node(asked: &Asked, node: &Value) -> Result<(), Refusal> {
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let known: Vec<&str> = addresses.filter_map(|address| address["address"].as_str()).collect();
    let is_own_name = |name: &String| *name == asked.node || known.contains(&name.as_str());
    if let Some(name) = asked.names.iter().find(|name| !is_own_name(name)) {
        return Err(Refusal::NotYet(format!("{name:?} is no name of node {:?}", asked.node)));
    }
    // MetaServer's addresses are reached on the node alone.
    let is_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    let is_own = |ip: &IpAddr| is_local(ip) || known.iter().any(|text| text.parse() == Ok(*ip));
    match asked.addresses.iter().find(|ip| !is_own(ip)) {
        Some(ip) => Err(Refusal::NotYet(format!("{ip} is no address of node {:?}", asked.node))),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    pub(in super::super) const OWN: &str = "system:serviceaccount:kubeedge:cloudcore";

    pub(in super::super) fn request(name: &str, group: &str, hosts: &[&str]) -> Value {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({"spec": {"signerName": SERVING, "username": OWN, "request": STANDARD.encode(pem),
            "usages": ["digital signature", "key encipherment", "server auth"]}})
    }

    fn decide(request: &Value) -> Result<(), Refusal> {
        let node = json!({"status": {"addresses": [
            {"type": "InternalIP", "address": "192.168.0.2"}, {"type": "Hostname", "address": "edge-1.plant"}]}});
        let asked = read(request).map_err(Refusal::Final)?;
        is_made_for_its_node(&asked, request, OWN)?;
        names_its_node(&asked, &node)
    }

    #[test]
    fn a_node_gets_its_own_names_and_addresses_and_metaservers() {
        for hosts in [
            &["192.168.0.2"][..],
            &["edge-1", "edge-1.plant", "192.168.0.2"],
            &["127.0.0.1", "169.254.30.10"],
            &["::1"],
        ] {
            assert_eq!(decide(&request("system:node:edge-1", "system:nodes", hosts)), Ok(()), "{hosts:?}");
        }
        let mut own = request("system:node:edge-1", "system:nodes", &["edge-1"]);
        own["spec"]["username"] = json!("system:node:edge-1");
        own["spec"]["usages"] = json!(["digital signature", "server auth"]);
        assert_eq!(decide(&own), Ok(()), "a kubelet asks for itself");
    }

    #[test]
    fn what_is_not_its_own_waits_for_somebody_else() {
        let ours = |hosts: &[&str]| request("system:node:edge-1", "system:nodes", hosts);
        let with = |field: &str, value: Value| {
            let mut request = ours(&["edge-1"]);
            request["spec"][field] = value;
            request
        };
        for (what, request) in [
            ("another's name", ours(&["edge-2"])),
            ("another's address", ours(&["192.168.0.3"])),
            ("one of its own and another's", ours(&["edge-1", "kubernetes.default"])),
            ("any host", ours(&["*"])),
            ("no host", ours(&[])),
            ("a mail address", ours(&["edge-1", "a@b.c"])),
            ("not a node", request("admin", "system:nodes", &["edge-1"])),
            ("no name", request("system:node:", "system:nodes", &["edge-1"])),
            ("another group", request("system:node:edge-1", "system:masters", &["edge-1"])),
            ("a client's usage", with("usages", json!(["digital signature", "client auth"]))),
            ("both usages", with("usages", json!(["digital signature", "server auth", "client auth"]))),
            ("no usage", with("usages", json!([]))),
            ("another node made it", with("username", json!("system:node:edge-2"))),
            ("a user made it", with("username", json!("someone"))),
            ("nobody made it", with("username", json!(""))),
            ("not PEM", with("request", json!("x"))),
        ] {
            assert!(decide(&request).is_err(), "{what}");
        }
    }

    #[test]
    fn only_what_waits_is_looked_at() {
        let mut waits = request("system:node:edge-1", "system:nodes", &["edge-1"]);
        assert!(is_pending(&waits));
        waits["status"] = json!({"conditions": [{"type": "Denied"}]});
        assert!(!is_pending(&waits));
        let mut other = request("system:node:edge-1", "system:nodes", &["edge-1"]);
        other["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client");
        assert!(!is_pending(&other));
    }
}
