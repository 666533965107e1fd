//! Signs what the signers of kube-controller-manager sign, once it is approved: certificates that nodes serve with
//! (`kubernetes.io/kubelet-serving`), and those that nodes and others show to the API (`kube-apiserver-client-kubelet`,
//! `kube-apiserver-client`). Requests to other signers wait for these.
//!
//! The rules are those of kube-controller-manager (`pkg/apis/certificates/helpers.go`, `pkg/controller/certificates/signer`).

mod rules;

pub(crate) use rules::{changes, problems, restricted, stamp};

use apimachinery::object;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{Authority, DAY, NODES_GROUP, Profile, SigningRequest, Usage, files, node_of};
use serde_json::{Value, json};

const SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Usages that each signer allows; the first ones are needed, but for the signature of a client.
const SERVING_USAGES: [&str; 3] = ["digital signature", "server auth", "key encipherment"];
const CLIENT_USAGES: [&str; 3] = ["client auth", "digital signature", "key encipherment"];
/// Seconds of the longest and of the shortest certificate (`--cluster-signing-duration`; the API takes no shorter one).
const LIFETIMES: (i64, i64) = (365 * DAY, 600);

/// Signs `object`, if it is a request that was approved and has no certificate yet. What cannot be signed gets the condition
/// `Failed`.
pub(crate) fn sign(authority: &Authority, object: &mut Value, now: i64) {
    let is_ours =
        [SERVING, CLIENT, NODE_CLIENT].iter().any(|signer| object["spec"]["signerName"] == **signer);
    if !is_ours || object["status"]["certificate"].is_string() {
        return;
    }
    let conditions = object::list(object, "/status/conditions");
    let says = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind);
    if !says("Approved") || says("Denied") || says("Failed") {
        return;
    }
    match signed(authority, object, now) {
        Ok(pem) => object["status"]["certificate"] = json!(STANDARD.encode(pem)),
        Err(why) => {
            let now = daemon::clock::rfc3339(jiff::Timestamp::from_second(now).unwrap_or_default());
            let condition = json!({
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": now, "lastTransitionTime": now,
            });
            if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
                conditions.push(condition);
            }
        }
    }
}

/// Seconds before it was signed from which a certificate counts (`pkg/controller/certificates/signer/signer.go`).
const BACKDATE: i64 = 300;

fn read(object: &Value) -> Result<SigningRequest, String> {
    let text = STANDARD.decode(object::text(object, "/spec/request")).unwrap_or_default();
    SigningRequest::from_pem(&text).map_err(|error| daemon::errors::describe(&error))
}

/// The user that a request for a node's client certificate is for; `None`: it is none (`ValidateKubeletClientCSR`).
pub(crate) fn client_of_node(object: &Value) -> Option<String> {
    let request = read(object).ok().filter(|_| object["spec"]["signerName"] == NODE_CLIENT)?;
    check_client_of_node(object, &request).ok()?;
    request.common_name().map(str::to_owned)
}

fn check_client_of_node(object: &Value, request: &SigningRequest) -> Result<(), String> {
    is_node(request)?;
    let (names, addresses) = request.hosts();
    if request.asks_for_other_than_hosts() || !names.is_empty() || !addresses.is_empty() {
        return Err("DNS, email, URI and IP subjectAltNames are not allowed".to_owned());
    }
    has_usages(object, &CLIENT_USAGES, &CLIENT_USAGES[..2])
}

fn is_node(request: &SigningRequest) -> Result<(), String> {
    let name = request.common_name().unwrap_or_default();
    match node_of(name).is_some() && request.organization() == Some(NODES_GROUP) {
        true => Ok(()),
        false => Err(format!("{name:?} is no node's name in the organisation {NODES_GROUP}")),
    }
}

fn has_usages(object: &Value, allowed: &[&str], needed: &[&str]) -> Result<(), String> {
    let usages: Vec<&str> = object::list(object, "/spec/usages").iter().filter_map(Value::as_str).collect();
    let is_right = needed.iter().all(|usage| usages.contains(usage))
        && usages.iter().all(|usage| allowed.contains(usage));
    match is_right {
        true => Ok(()),
        false => Err(format!("the usages {usages:?} are not those that the signer allows: {allowed:?}")),
    }
}

fn signed(authority: &Authority, object: &Value, now: i64) -> Result<String, String> {
    let request = read(object)?;
    let (names, addresses) = request.hosts();
    let signer = object::text(object, "/spec/signerName");
    match signer {
        SERVING => {
            is_node(&request)?;
            if request.asks_for_other_than_hosts() || (names.is_empty() && addresses.is_empty()) {
                return Err("it asks for no host, or for names that are no hosts".to_owned());
            }
            has_usages(object, &SERVING_USAGES, &SERVING_USAGES[..2])?;
        }
        NODE_CLIENT => check_client_of_node(object, &request)?,
        _ => {
            has_usages(object, &CLIENT_USAGES, &CLIENT_USAGES[..1])?;
            if request.common_name().is_none() || request.asks_for_other_than_hosts() {
                return Err("it names no user, or asks for names that are no hosts".to_owned());
            }
        }
    }
    let wanted = object::integer(object, "/spec/expirationSeconds").unwrap_or(LIFETIMES.0);
    let profile = Profile {
        common_name: request.common_name().unwrap_or_default().to_owned(),
        organizations: request.organizations().to_vec(),
        names: names.into_iter().chain(addresses.iter().map(ToString::to_string)).collect(),
        usage: if signer == SERVING { Usage::Server } else { Usage::Client },
        lifetime: wanted.clamp(LIFETIMES.1, LIFETIMES.0),
    };
    let certificate = authority.sign_request(&request, &profile, now, Some(now - BACKDATE));
    let certificate = certificate.map_err(|error| daemon::errors::describe(&error))?;
    Ok(files::certificate_pem(&certificate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    const NOW: i64 = 1_800_000_000;

    fn decided(condition: &str) -> Value {
        let (_, pem) = pki::serving_request("e1", &["e1".to_owned(), "10.0.0.7".to_owned()]).unwrap();
        json!({"spec": {"signerName": SERVING, "request": STANDARD.encode(pem),
                "usages": ["digital signature", "server auth"]},
            "status": {"conditions": [{"type": condition}]}})
    }

    #[test]
    fn an_approved_request_gets_a_certificate_of_the_clusters_ca_with_what_it_asked_for() {
        let ca = Authority::generate(Some("causeway"), NOW).unwrap();
        let mut request = decided("Approved");
        request["spec"]["expirationSeconds"] = json!(3600);
        sign(&ca, &mut request, NOW);
        let pem = STANDARD.decode(request["status"]["certificate"].as_str().unwrap()).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW as u64));
        let host = ServerName::try_from("10.0.0.7").unwrap();
        verifier.verify_server_cert(&certificate, &[], &host, &[], now).unwrap();
        assert_eq!(pki::hosts_of(&certificate).unwrap(), ["e1", "10.0.0.7"]);
        let subject = pki::Subject::of(&certificate).unwrap();
        assert_eq!((subject.common_name.as_str(), subject.not_after), ("system:node:e1", NOW + 3600));
        let before = request.clone();
        sign(&ca, &mut request, NOW + 10);
        assert_eq!(request, before, "it is signed once");
    }

    #[test]
    fn what_is_denied_or_of_another_signer_is_not_signed_and_what_breaks_a_rule_says_so() {
        let ca = Authority::generate(Some("causeway"), NOW).unwrap();
        let mut other = decided("Approved");
        other["spec"]["signerName"] = json!("example.com/own");
        for mut request in [decided("Denied"), other] {
            let before = request.clone();
            sign(&ca, &mut request, NOW);
            assert_eq!(request, before);
        }
        let mut client = decided("Approved");
        client["spec"]["usages"] = json!(["digital signature", "client auth"]);
        sign(&ca, &mut client, NOW);
        assert!(client["status"]["certificate"].is_null());
        assert_eq!(client["status"]["conditions"][1]["type"], "Failed");
    }

    #[test]
    fn clients_of_the_api_and_nodes_among_them_are_signed_by_their_own_rules() {
        let ca = Authority::generate(Some("causeway"), NOW).unwrap();
        let (_, der) = pki::node_request("e1").unwrap();
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(der)
        );
        let mut request = decided("Approved");
        request["spec"]["request"] = json!(STANDARD.encode(pem));
        request["spec"]["usages"] = json!(["client auth", "digital signature"]);
        for signer in [CLIENT, NODE_CLIENT] {
            request["spec"]["signerName"] = json!(signer);
            let mut signed = request.clone();
            sign(&ca, &mut signed, NOW);
            let pem = STANDARD.decode(signed["status"]["certificate"].as_str().unwrap()).unwrap();
            let subject = pki::Subject::of(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
            assert_eq!(subject.common_name, "system:node:e1");
        }
        assert_eq!(client_of_node(&request).as_deref(), Some("system:node:e1"));
        let mut hosts = decided("Approved");
        hosts["spec"]["signerName"] = json!(NODE_CLIENT);
        hosts["spec"]["usages"] = request["spec"]["usages"].clone();
        sign(&ca, &mut hosts, NOW);
        assert_eq!(hosts["status"]["conditions"][1]["type"], "Failed", "a client has no hosts");
    }
}
