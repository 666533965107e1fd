//! What is asked of the cluster, by way of the cloud: a certificate, and its CAs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::{Json, ObjectKey, ObjectKind, Reply, Request, Status};
use metamanager::{Cloud, CloudCallError, LinkState};
use pki::{AuthorityError, Bundle, BundleError, Identity};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::kept::KeptError;

const SERVING: &str = "kubernetes.io/kubelet-serving";
/// First and longest wait between two looks at a request; between them it doubles.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Looks at the node's object until it names all addresses of the node: half a minute.
const NODE_LOOKS: u32 = 5;
/// Looks at a request before another is made: about 15 minutes, the kubelet's patience.
const LOOKS: u32 = 34;

#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("making a key and a signing request")]
    Make(#[source] AuthorityError),
    #[error("asking the cloud to {what}")]
    Call { what: &'static str, source: CloudCallError },
    #[error("the cloud refused to {what}")]
    Refused { what: &'static str, source: Status },
    #[error("the cloud answered nothing that can be read, asked to {what}")]
    Answer { what: &'static str },
    #[error("signing request {name} is {decision}: {why}")]
    Decided { name: String, decision: String, why: String },
    #[error(
        "nobody has approved and signed signing request {name} in {minutes} minutes: CloudCore approves those that name nothing but the node's own name and addresses, kubectl certificate approve any"
    )]
    Waited { name: String, minutes: u64 },
    #[error("the certificate of signing request {name}")]
    Certificate { name: String, source: BundleError },
    #[error("keeping it")]
    Keep(#[source] KeptError),
    #[error("the cluster's CAs")]
    Cas(#[source] BundleError),
}

/// Of `hosts`, those that the node's object names, for which alone a certificate is approved. The first is the node's own name.
/// An object that is still to be told something is waited for.
pub(super) async fn known(cloud: &Cloud, node: &str, hosts: &[String]) -> Result<Vec<String>, AskError> {
    let key = || ObjectKey::new(None, ObjectKind::Node, node);
    let mut looks = 0;
    loop {
        let known = match call(cloud, "read the node", Request::Get { key: key() }).await {
            Ok(Reply::Object(object)) => addresses(&object.parse().unwrap_or_default()),
            Ok(_) => Vec::new(),
            Err(AskError::Refused { source, .. }) if source.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let is_known = |host: &&String| *host == node || known.contains(*host);
        let found: Vec<String> = hosts.iter().filter(is_known).cloned().collect();
        if found.len() == hosts.len() || looks >= NODE_LOOKS {
            return Ok(found);
        }
        tokio::time::sleep(daemon::backoff::doubled(LOOK.0, LOOK.1, looks)).await;
        looks += 1;
    }
}

fn addresses(node: &Value) -> Vec<String> {
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    addresses.filter_map(|address| address["address"].as_str()).map(str::to_owned).collect()
}

/// Makes a signing request for `hosts` and waits until it is approved and signed. While the link is down it waits for that as
/// well.
pub(super) async fn obtain(cloud: &Cloud, node: &str, hosts: &[String]) -> Result<Identity, AskError> {
    let (key, pem) = pki::serving_request(node, hosts).map_err(AskError::Make)?;
    let name = format!("csr-{:016x}", rand::rng().random::<u64>());
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "signerName": SERVING,
            "usages": ["digital signature", "server auth"],
            "request": STANDARD.encode(pem),
        },
    });
    let made = Request::CreateSigningRequest { name: name.clone(), object: Json::of(&object) };
    call(cloud, "make a signing request", made).await?;
    tracing::info!(request = name, hosts = ?hosts, "asked the cluster for a certificate of the Node API");
    let mut waited = Duration::ZERO;
    for look in 0..LOOKS {
        let wait = daemon::backoff::doubled(LOOK.0, LOOK.1, look);
        waited += wait;
        tokio::time::sleep(wait).await;
        match look_at(cloud, &name).await {
            Ok(None) => {}
            Ok(Some(certificate)) => {
                let read = Bundle::from_pem(&certificate);
                let read = read.map_err(|source| AskError::Certificate { name, source })?;
                let (certificate, intermediates) =
                    read.certificates().split_first().ok_or(AskError::Answer { what: "sign" })?;
                let identity = Identity::new(certificate.clone(), key);
                return Ok(identity.with_intermediates(intermediates.to_vec()));
            }
            Err(AskError::Call { .. }) => {
                let mut link = cloud.link();
                let _ = link.wait_for(|state| *state == LinkState::Connected).await;
            }
            Err(AskError::Refused { source, .. }) if source.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
    Err(AskError::Waited { name, minutes: waited.as_secs() / 60 })
}

/// The certificate as PEM; `None`: there is none yet.
async fn look_at(cloud: &Cloud, name: &str) -> Result<Option<Vec<u8>>, AskError> {
    const WHAT: &str = "read a signing request";
    // KubeEdge's edges name a namespace, which these objects do not have (docs/protocol/transport.md 1.6).
    let key = ObjectKey::new(Some("default"), ObjectKind::CertificateSigningRequest, name);
    let Reply::Object(object) = call(cloud, WHAT, Request::Get { key }).await? else {
        return Err(AskError::Answer { what: WHAT });
    };
    let object: Value = object.parse().map_err(|_| AskError::Answer { what: WHAT })?;
    let status = &object["status"];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if let decision @ ("Denied" | "Failed") = condition["type"].as_str().unwrap_or_default() {
            return Err(AskError::Decided {
                name: name.to_owned(),
                decision: decision.to_lowercase(),
                why: condition["message"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    match status["certificate"].as_str() {
        None | Some("") => Ok(None),
        Some(text) => STANDARD.decode(text).map(Some).map_err(|_| AskError::Answer { what: WHAT }),
    }
}

/// The CAs by which the cloud trusts the API server, whose clients' certificates they sign in most clusters.
pub(super) async fn cluster_cas(cloud: &Cloud) -> Result<Bundle, AskError> {
    const WHAT: &str = "tell the cluster's CAs";
    match call(cloud, WHAT, Request::ClusterCa).await? {
        Reply::Text(pem) => Bundle::from_pem(pem.as_bytes()).map_err(AskError::Cas),
        _ => Err(AskError::Answer { what: WHAT }),
    }
}

async fn call(cloud: &Cloud, what: &'static str, request: Request) -> Result<Reply, AskError> {
    match cloud.call(request).await {
        Ok(Reply::Refused(source)) => Err(AskError::Refused { what, source }),
        Ok(reply) => Ok(reply),
        Err(source) => Err(AskError::Call { what, source }),
    }
}
