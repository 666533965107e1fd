//! What MetaServer shows: certificates of a CA of the node's own, made here and renewed in time, or the files that are
//! configured; and whose client certificates it knows.
//!
//! Below its folder: `ca.crt`, `ca.key` (100 years), `server.crt`, `server.key`, and `kubeconfig` for who administers the
//! node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kubeapi::tls::Tls;
use pki::files::{self, FileError};
use pki::{Authority, AuthorityError, DAY, Identity, Profile, Subject, Usage};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier as _};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Life of a serving certificate, and how much of it must be left.
const LIFE: i64 = 365 * DAY;
const LEFT: i64 = LIFE / 3;
/// How often dates and files are looked at.
const LOOK: Duration = Duration::from_secs(600);
/// The same until the node has registered, and knows who signs its certificates.
const UNREGISTERED: Duration = Duration::from_secs(2);

/// Files of certificates and keys.
#[derive(Clone, Debug)]
pub struct Files {
    /// Where MetaServer keeps its own.
    pub folder: PathBuf,
    /// A certificate and its key that are shown instead, if both are there.
    pub given: Option<(PathBuf, PathBuf)>,
    /// The CA that signed the given certificate; told to pods beside our own.
    pub given_ca: Option<PathBuf>,
    /// The CAs that sign nodes' certificates.
    pub client_ca: PathBuf,
    /// This node's certificate and key, for the kubeconfig.
    pub node: (PathBuf, PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("the CA of MetaServer")]
    Authority(#[from] AuthorityError),
    #[error("certificates of MetaServer")]
    Files(#[from] FileError),
    #[error("certificate and key of MetaServer do not fit together")]
    Pair(#[source] Error),
    #[error("reading and making certificates of MetaServer")]
    Work(#[source] std::io::Error),
}

/// What is shown and believed now; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    shown: Arc<RwLock<Option<Arc<CertifiedKey>>>>,
    clients: Arc<RwLock<Option<Arc<dyn ClientCertVerifier>>>>,
    /// For signature checks, whoever signs.
    provider: Arc<rustls::crypto::CryptoProvider>,
}

/// What files say. Made behind `daemon::blocking`.
struct Found {
    shown: Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// PEM, of the CAs that sign what is shown.
    trust: String,
}

impl Live {
    pub(crate) fn new() -> Live {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Live { shown: Arc::default(), clients: Arc::default(), provider }
    }

    pub(crate) fn tls(&self) -> Tls {
        kubeapi::tls::live(Arc::new(self.clone()), Arc::new(self.clone()))
    }

    /// Reads the files anew, and makes what is missing or about to expire. Answers the CAs that sign what is shown, in PEM.
    ///
    /// # Errors
    /// A file cannot be read or written, or nothing can be signed. What was shown is still shown.
    pub(crate) async fn look(
        &self,
        files: Files,
        names: Vec<String>,
        server: SocketAddr,
    ) -> Result<String, ServingError> {
        let provider = self.provider.clone();
        let found = daemon::blocking(move || Ok(find(&files, &names, server, &provider))).await;
        let found = found.map_err(ServingError::Work)??;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(found.shown);
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = found.clients;
        Ok(found.trust)
    }

    /// When files are to be looked at again.
    pub(crate) fn rest(&self) -> Duration {
        if self.verifier().is_some() { LOOK } else { UNREGISTERED }
    }

    fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Names that clients call the API server by.
pub(crate) fn names(addresses: &[SocketAddr]) -> Vec<String> {
    let usual = [
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut names: Vec<String> = usual.iter().map(|name| (*name).to_owned()).collect();
    for address in addresses {
        let ip = address.ip();
        if !ip.is_unspecified() && !names.contains(&ip.to_string()) {
            names.push(ip.to_string());
        }
    }
    names
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn find(
    files: &Files,
    names: &[String],
    server: SocketAddr,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<Found, ServingError> {
    let now = daemon::clock::unix_seconds();
    let at = |name: &str| files.folder.join(name);
    let given = files.given.as_ref().filter(|(certificate, key)| certificate.exists() && key.exists());
    let (identity, mut trust) = match given {
        Some((certificate, key)) => (files::read_identity(certificate, key)?, String::new()),
        None => {
            let authority = authority(&at("ca.crt"), &at("ca.key"), now)?;
            let identity = own(&authority, &at("server.crt"), &at("server.key"), names, now)?;
            let ca = authority.certificate().clone();
            let pem = files::certificate_pem(&ca);
            (identity.with_intermediates(vec![ca]), pem)
        }
    };
    if given.is_some()
        && let Some(ca) = &files.given_ca
        && let Ok(bundle) = files::read_bundle(ca)
    {
        trust = bundle.to_pem();
    }
    let chain = std::iter::once(identity.certificate()).chain(identity.intermediates()).cloned().collect();
    let shown =
        CertifiedKey::from_der(chain, identity.private_key(), provider).map_err(ServingError::Pair)?;
    // A node that has not registered yet has none.
    let clients = files::read_bundle(&files.client_ca).ok().and_then(|bundle| {
        let mut roots = RootCertStore::empty();
        bundle.certificates().iter().for_each(|ca| drop(roots.add(ca.clone())));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        Some(verifier)
    });
    write_if_new(&at("kubeconfig"), &kubeconfig(files, server, &trust), 0o600)?;
    Ok(Found { shown: Arc::new(shown), clients, trust })
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn write_if_new(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    match std::fs::read_to_string(path) {
        Ok(before) if before == text => Ok(()),
        _ => files::write_atomic(path, text.as_bytes(), mode),
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn authority(certificate: &Path, key: &Path, now: i64) -> Result<Authority, ServingError> {
    if files::is_written(certificate) && key.exists() {
        match files::load_identity(certificate, key) {
            Ok(identity) => {
                if let Some(key) = identity.key_sec1()
                    && let Ok(authority) = Authority::from_der(identity.certificate(), &key)
                {
                    return Ok(authority);
                }
            }
            Err(error) => {
                tracing::warn!(path = %certificate.display(), error = %daemon::errors::describe(&error), "the CA of MetaServer does not read: a new one is made, and pods trust it when they start again");
            }
        }
    }
    let authority = Authority::generate(Some("causeway-metaserver"), now)?;
    let identity = Identity::from_der(authority.certificate(), authority.key_sec1());
    let identity = identity.map_err(|source| FileError::Identity {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })?;
    files::write_identity(certificate, key, &identity)?;
    Ok(authority)
}

/// The certificate of the authority, if it is good for long enough and for these names; else a new one.
fn own(
    authority: &Authority,
    certificate: &Path,
    key: &Path,
    names: &[String],
    now: i64,
) -> Result<Identity, ServingError> {
    if files::is_written(certificate)
        && let Ok(identity) = files::load_identity(certificate, key)
        && is_good(&identity, authority, names, now)
    {
        return Ok(identity);
    }
    let profile = Profile {
        common_name: "causeway-metaserver".to_owned(),
        organizations: vec![],
        names: names.to_vec(),
        usage: Usage::Server,
        lifetime: LIFE,
    };
    let identity = authority.issue(&profile, now)?;
    files::write_identity(certificate, key, &identity)?;
    Ok(identity)
}

fn is_good(identity: &Identity, authority: &Authority, names: &[String], now: i64) -> bool {
    let Ok(subject) = Subject::of(identity.certificate()) else { return false };
    let Ok(has) = pki::hosts_of(identity.certificate()) else { return false };
    is_signed(identity.certificate(), authority.certificate(), now)
        && subject.not_before <= now
        && subject.not_after - now > LEFT
        && names.iter().all(|name| has.contains(name))
}

/// True if clients that trust `ca` take it for `localhost`.
fn is_signed(certificate: &CertificateDer<'_>, ca: &CertificateDer<'static>, now: i64) -> bool {
    let mut roots = RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(localhost) = "localhost".try_into() else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
    roots.add(ca.clone()).is_ok()
        && WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .is_ok_and(|verifier| verifier.verify_server_cert(certificate, &[], &localhost, &[], now).is_ok())
}

/// For kubectl of who is root on the node: it is the node.
fn kubeconfig(files: &Files, server: SocketAddr, trust: &str) -> String {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(trust);
    let (certificate, key) = (files.node.0.display(), files.node.1.display());
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: node\n  cluster:\n    server: https://{server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: node\n  user:\n    client-certificate: {certificate}\n    \
         client-key: {key}\ncontexts:\n- name: node\n  context: {{cluster: node, user: node}}\ncurrent-context: node\n"
    )
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientCertVerifier for Live {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Clients show what they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        self.verifier().ok_or_else(unknown)?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
