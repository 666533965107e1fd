//! This node's certificate: from disk, for the one it has, or for a join token (docs/protocol/transport.md 4.4).
//!
//! An expired certificate is first offered for a new one: the cloud may allow that for a while. Then the token counts:
//! token -> CA certificate (unverified, then compared with the token's hash) -> signing request (verified against
//! that CA) -> certificate. Keys are written 0600 and before their certificate; the token is blanked once used.

use std::path::PathBuf;
use std::time::Duration;

use hyper::StatusCode;
use link::Way;
use message::NodeName;
use pki::files::FileError;
use pki::tls::{LiveClient, TlsError};
use pki::token::{JoinToken, TokenError};
use pki::{AuthorityError, Bundle, BundleError, EdgeSubject, Identity, SubjectError};

use super::CertificateFiles;
use super::backoff::{Backoff, Failure};
use super::credentials::{self, Credentials, StoredCredentials};
use super::https::{self, HttpsError};

/// How to enrol.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// `https://host:port` of the registration server.
    pub server: String,
    /// How it is reached.
    pub way: Way,
    pub files: CertificateFiles,
    /// From the configuration file.
    pub token: Option<Secret>,
    /// File that holds the token and wins over `token`; removed once used.
    pub token_file: PathBuf,
    /// Take the name over from a machine that is connected by it.
    pub take_over: bool,
    /// Configuration file in which a used token is blanked.
    pub config_file: Option<PathBuf>,
}

/// Times one signing request is sent before enrolling starts over with a new key.
const ATTEMPTS: u32 = 3;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

/// Text that does not print.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    #[error(
        "there is no certificate at {certificate} and no join token; run keadm join with a token of keadm gettoken"
    )]
    NoToken { certificate: PathBuf },
    #[error(
        "the certificate at {certificate} ended at {end}, it is {now} by the clock of this machine, and the cloud did not renew it; set the clock if it is wrong, else put a token of keadm gettoken into {token_file} and start EdgeCore again"
    )]
    Expired { certificate: PathBuf, end: String, now: String, token_file: PathBuf, source: Box<EnrollError> },
    #[error(
        "the certificate at {certificate} ended at {end}, it is {now} by the clock of this machine (set it if it is wrong); asking the cloud to renew it"
    )]
    NotRenewedYet { certificate: PathBuf, end: String, now: String, source: Box<EnrollError> },
    #[error(
        "the certificate of {server} is not valid at {now}, the time by the clock of this machine: set the clock if it is wrong, else see to the certificate in the cloud"
    )]
    Clock { server: String, now: String, source: HttpsError },
    #[error("the join token is not usable")]
    Token(#[source] TokenError),
    #[error("the server refused: {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("asking the registration server")]
    Https(#[source] HttpsError),
    #[error("TLS of the registration")]
    Tls(#[source] TlsError),
    #[error("certificate files")]
    Files(#[source] FileError),
    #[error("writing certificate files failed")]
    Write(#[source] std::io::Error),
    #[error("making a signing request")]
    Request(#[source] AuthorityError),
    #[error("the server's certificate for this node")]
    Answer(#[source] SubjectError),
    #[error("the server's CA bundle")]
    Bundle(#[source] BundleError),
    #[error("the server gave a certificate of node {found}")]
    OtherNode { found: String },
}

impl EnrollError {
    /// True if the same attempt may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            EnrollError::Https(error) => !matches!(error, HttpsError::BadUrl { .. }),
            EnrollError::Clock { .. } => true,
            EnrollError::NotRenewedYet { source, .. } => source.is_retryable(),
            EnrollError::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

/// Trust and identity of this node. Waits for the server as long as it cannot be reached; ends with an error when it
/// refuses.
pub(super) async fn obtain(node: &NodeName, enrollment: &Enrollment) -> Result<Credentials, EnrollError> {
    let expired = match credentials::on_disk(node, &enrollment.files, daemon::clock::unix_seconds()) {
        StoredCredentials::Good(found) => return Ok(found),
        StoredCredentials::Expired(found, end) => Some((found, end)),
        StoredCredentials::Nothing => None,
    };
    let mut backoff = Backoff::default();
    loop {
        let attempt = match &expired {
            None => enrol(node, enrollment).await,
            Some((found, end)) => replace_expired(node, enrollment, found, *end).await,
        };
        match attempt {
            Err(error) if error.is_retryable() => {
                let error = super::describe(&error);
                tracing::warn!(%node, peer = enrollment.server, error, "no valid certificate yet, trying again");
                let wait = backoff.next(Failure::Other, tokio::time::Instant::now());
                tokio::time::sleep(wait).await;
            }
            ended => return ended,
        }
    }
}

/// A new certificate for one that ended at `end`: by that one if the cloud takes it, else by the join token.
pub(super) async fn replace_expired(
    node: &NodeName,
    enrollment: &Enrollment,
    expired: &Credentials,
    end: i64,
) -> Result<Credentials, EnrollError> {
    let refused = match renew(node, enrollment, expired).await {
        Err(error) => error,
        renewed => return renewed,
    };
    if token_text(enrollment).await.is_some() {
        let error = super::describe(&refused);
        tracing::warn!(%node, error, "the expired certificate was not renewed, using the join token");
        return enrol(node, enrollment).await;
    }
    let (certificate, end, now) = (enrollment.files.certificate.clone(), date(end), now());
    let is_retryable = refused.is_retryable();
    let source = Box::new(refused);
    Err(match is_retryable {
        true => EnrollError::NotRenewedYet { certificate, end, now, source },
        false => {
            EnrollError::Expired { certificate, end, now, token_file: enrollment.token_file.clone(), source }
        }
    })
}

/// The time by the clock of this machine.
fn now() -> String {
    date(daemon::clock::unix_seconds())
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A new key and certificate for the ones this node has, by mutual TLS.
pub(super) async fn renew(
    node: &NodeName,
    enrollment: &Enrollment,
    held: &Credentials,
) -> Result<Credentials, EnrollError> {
    let tls = held.live().map_err(EnrollError::Tls)?.config();
    let (key, request) = pki::node_request(node.as_str()).map_err(EnrollError::Request)?;
    let certificate = ask(tls, enrollment, "/edge.crt", &[("NodeName", node.to_string())], request).await?;
    let renewed = Credentials { trust: held.trust.clone(), identity: own(node, certificate, key)? };
    store_identity(enrollment, &renewed).await?;
    Ok(renewed)
}

/// Asks whom to trust from now on; `None` if nothing changed or the cloud does not tell (KubeEdge's does not). The
/// answer comes from a server trusted already, and that server must be trusted by the answer, or it would shut this
/// node out.
pub(super) async fn newer_trust(
    enrollment: &Enrollment,
    held: &Credentials,
) -> Result<Option<Bundle>, EnrollError> {
    let fetch = async |trust: &Bundle| {
        let live = LiveClient::new(trust, Some(&held.identity)).map_err(EnrollError::Tls)?;
        ask(live.config(), enrollment, "/ca-bundle.crt", &[], Vec::new()).await
    };
    let text = match fetch(&held.trust).await {
        Err(EnrollError::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(None),
        answer => answer?,
    };
    let trust = Bundle::from_pem(&text).map_err(EnrollError::Bundle)?;
    if trust == held.trust {
        return Ok(None);
    }
    fetch(&trust).await?;
    let (path, written) = (enrollment.files.ca.clone(), trust.clone());
    store(move || pki::files::write_bundle(&path, &written)).await?;
    Ok(Some(trust))
}

async fn token_text(enrollment: &Enrollment) -> Option<String> {
    let from_file = tokio::fs::read_to_string(&enrollment.token_file).await;
    let from_file = from_file.ok().filter(|text| !text.trim().is_empty());
    from_file.or_else(|| enrollment.token.as_ref().map(|token| token.0.clone()))
}

async fn token(enrollment: &Enrollment) -> Result<JoinToken, EnrollError> {
    let no_token = || EnrollError::NoToken { certificate: enrollment.files.certificate.clone() };
    JoinToken::parse(&token_text(enrollment).await.ok_or_else(no_token)?).map_err(EnrollError::Token)
}

/// Trust and identity for the join token.
async fn enrol(node: &NodeName, enrollment: &Enrollment) -> Result<Credentials, EnrollError> {
    let token = token(enrollment).await?;
    let before_trust = pki::tls::client_before_trust();
    let ca = ask(before_trust, enrollment, "/ca.crt", &[], Vec::new()).await?;
    token.check_ca(&ca).map_err(EnrollError::Token)?;
    let (key, request) = pki::node_request(node.as_str()).map_err(EnrollError::Request)?;
    let trusting = pki::tls::client(&ca, None).map_err(EnrollError::Tls)?;
    let headers = [
        ("NodeName", node.to_string()),
        ("Authorization", format!("Bearer {}", token.bearer())),
        ("Take-Over", enrollment.take_over.to_string()),
    ];
    let certificate = ask_until_answered(trusting, enrollment, &headers, request).await?;
    let enrolled = Credentials { trust: Bundle::of(&ca), identity: own(node, certificate, key)? };
    enrolled.live().map_err(EnrollError::Tls)?;
    let (place, trust, identity) = (enrollment.clone(), enrolled.trust.clone(), enrolled.identity.clone());
    // In one piece: a stop in between would lose the key of a token that is good once.
    store(move || {
        pki::files::write_bundle(&place.files.ca, &trust)?;
        pki::files::write_identity(&place.files.certificate, &place.files.key, &identity)?;
        blank_token(&place);
        Ok(())
    })
    .await?;
    tracing::info!(%node, "certificate obtained");
    Ok(enrolled)
}

/// Sends the same request again when its answer was lost: a token that is good once knows the request it was used for.
async fn ask_until_answered(
    tls: std::sync::Arc<rustls::ClientConfig>,
    enrollment: &Enrollment,
    headers: &[(&str, String)],
    request: Vec<u8>,
) -> Result<Vec<u8>, EnrollError> {
    for _ in 1..ATTEMPTS {
        match ask(tls.clone(), enrollment, "/edge.crt", headers, request.clone()).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(BETWEEN_ATTEMPTS).await,
            ended => return ended,
        }
    }
    ask(tls, enrollment, "/edge.crt", headers, request).await
}

/// The identity of a certificate the server gave, checked to be this node's.
fn own(node: &NodeName, certificate: Vec<u8>, key: Vec<u8>) -> Result<Identity, EnrollError> {
    let found = EdgeSubject::of(&certificate).map_err(EnrollError::Answer)?.node;
    if found != node.as_str() {
        return Err(EnrollError::OtherNode { found });
    }
    Ok(Identity::new(certificate.into(), key))
}

/// Writes a pair that fits together; what was there stays until then.
async fn store_identity(enrollment: &Enrollment, credentials: &Credentials) -> Result<(), EnrollError> {
    credentials.live().map_err(EnrollError::Tls)?;
    let (files, identity) = (enrollment.files.clone(), credentials.identity.clone());
    store(move || pki::files::write_identity(&files.certificate, &files.key, &identity)).await
}

/// Files are written through to the disk, which takes its time.
async fn store(work: impl FnOnce() -> Result<(), FileError> + Send + 'static) -> Result<(), EnrollError> {
    let written = daemon::blocking(move || Ok(work())).await.map_err(EnrollError::Write)?;
    written.map_err(EnrollError::Files)
}

async fn ask(
    tls: std::sync::Arc<rustls::ClientConfig>,
    enrollment: &Enrollment,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<Vec<u8>, EnrollError> {
    let answer = https::get(tls, &enrollment.way, &enrollment.server, path, headers, body).await;
    let (status, body) = answer.map_err(|source| match source.is_about_the_clock() {
        true => EnrollError::Clock { server: enrollment.server.clone(), now: now(), source },
        false => EnrollError::Https(source),
    })?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).trim().chars().take(512).collect();
        return Err(EnrollError::Refused { status, text });
    }
    Ok(body.to_vec())
}

/// A token is good once; keeping it on the node would only help a thief. Blocks.
#[expect(clippy::disallowed_methods, reason = "runs where files are written, behind daemon::blocking")]
fn blank_token(enrollment: &Enrollment) {
    if enrollment.token_file.exists()
        && let Err(error) = std::fs::remove_file(&enrollment.token_file)
    {
        tracing::warn!(path = %enrollment.token_file.display(), error = %error, "could not remove the used join token");
    }
    let (Some(path), Some(token)) = (&enrollment.config_file, &enrollment.token) else { return };
    let blank = || -> Result<(), Box<dyn std::error::Error>> {
        let text = std::fs::read_to_string(path)?;
        if text.contains(token.0.as_str()) {
            pki::files::write_atomic(path, text.replace(token.0.as_str(), "\"\"").as_bytes(), 0o600)?;
        }
        Ok(())
    };
    if let Err(error) = blank() {
        tracing::warn!(path = %path.display(), error = %error, "could not blank the used join token");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_certificate_and_token_the_error_says_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let enrollment = Enrollment {
            server: "https://127.0.0.1:1".into(),
            way: Way::Straight,
            files: CertificateFiles { ca: file("ca"), certificate: file("crt"), key: file("key") },
            token: None,
            token_file: file("token"),
            take_over: false,
            config_file: None,
        };
        let error = obtain(&NodeName::new("e1").unwrap(), &enrollment).await.unwrap_err();
        assert!(error.to_string().contains("keadm join"), "{error}");
        std::fs::write(file("token"), "nonsense").unwrap();
        let error = obtain(&NodeName::new("e1").unwrap(), &enrollment).await.unwrap_err();
        assert!(matches!(error, EnrollError::Token(TokenError::Malformed)), "{error}");
    }

    #[tokio::test]
    async fn a_clock_that_is_ahead_is_told_as_that_and_not_as_a_missing_certificate() {
        pki::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let (now, year) = (daemon::clock::unix_seconds(), 365 * 86_400);
        // Made and ended in the past, as they look to a clock that runs ahead.
        let ca = pki::Authority::generate(None, now - 2 * year).unwrap();
        let profile = |name: &str, usage| pki::Profile {
            common_name: pki::edge_common_name(name),
            organizations: vec![pki::NODES_GROUP.to_owned()],
            names: vec!["127.0.0.1".to_owned()],
            usage,
            lifetime: year,
        };
        let edge = ca.issue(&profile("e1", pki::Usage::Client), now - 2 * year).unwrap();
        let cloud = ca.issue(&profile("cloud", pki::Usage::Server), now - 2 * year).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(server_with(&cloud));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = acceptor.accept(stream).await;
            }
        });
        let enrollment = Enrollment {
            server,
            way: Way::Straight,
            files: CertificateFiles { ca: file("ca"), certificate: file("crt"), key: file("key") },
            token: None,
            token_file: file("token"),
            take_over: false,
            config_file: None,
        };
        let held = Credentials { trust: Bundle::of(ca.certificate()), identity: edge };
        let node = NodeName::new("e1").unwrap();
        let end = now - year;
        let error = replace_expired(&node, &enrollment, &held, end).await.unwrap_err();
        assert!(error.is_retryable());
        let text = daemon::errors::describe(&error);
        for part in [
            &*date(end),
            "by the clock of this machine",
            "set the clock if it is wrong",
            "certificate of https",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let refused = EnrollError::Refused { status: StatusCode::UNAUTHORIZED, text: String::new() };
        assert!(!refused.is_retryable());
    }

    /// A server that shows this certificate.
    fn server_with(identity: &Identity) -> std::sync::Arc<rustls::ServerConfig> {
        let chain = vec![identity.certificate().clone()];
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, identity.private_key());
        std::sync::Arc::new(config.unwrap())
    }

    #[test]
    fn a_used_token_is_blanked_wherever_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("edgecore.yaml"), "modules:\n  edgeHub:\n    token: abc.def\n").unwrap();
        std::fs::write(file("token"), "abc.def").unwrap();
        blank_token(&Enrollment {
            server: String::new(),
            way: Way::Straight,
            files: CertificateFiles { ca: file("ca"), certificate: file("crt"), key: file("key") },
            token: Some(Secret("abc.def".into())),
            token_file: file("token"),
            take_over: false,
            config_file: Some(file("edgecore.yaml")),
        });
        assert!(!file("token").exists());
        assert_eq!(
            std::fs::read_to_string(file("edgecore.yaml")).unwrap(),
            "modules:\n  edgeHub:\n    token: \"\"\n"
        );
    }
}
