//! This node's certificate: from disk, or for a join token (spec/transport.md 4.4).
//!
//! token -> CA certificate (unverified, then compared with the token's hash) -> signing request (verified against
//! that CA) -> certificate. Keys are written 0600 and before their certificate; the token is blanked once used.

use std::path::PathBuf;

use hyper::StatusCode;
use message::NodeName;
use pki::files::FileError;
use pki::tls::TlsError;
use pki::token::{JoinToken, TokenError};
use pki::{AuthorityError, EdgeSubject, Identity, Subject, SubjectError};

use super::CertificateFiles;
use super::backoff::{Backoff, Failure};
use super::https::{self, HttpsError};

/// How to enrol.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// `https://host:port` of the registration server.
    pub server: String,
    pub files: CertificateFiles,
    /// From the configuration file.
    pub token: Option<Secret>,
    /// File that holds the token and wins over `token`; removed once used.
    pub token_file: PathBuf,
    /// Configuration file in which a used token is blanked.
    pub config_file: Option<PathBuf>,
}

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
    #[error("making a signing request")]
    Request(#[source] AuthorityError),
    #[error("the server's certificate for this node")]
    Answer(#[source] SubjectError),
    #[error("the server gave a certificate of node {found}")]
    OtherNode { found: String },
}

impl EnrollError {
    /// True if the same attempt may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            EnrollError::Https(error) => !matches!(error, HttpsError::BadUrl { .. }),
            EnrollError::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

/// The CA certificate and this node's identity. Waits for the server as long as it cannot be reached; ends with an
/// error when it refuses.
pub(super) async fn obtain(
    node: &NodeName,
    enrollment: &Enrollment,
) -> Result<(Vec<u8>, Identity), EnrollError> {
    if let Some(found) = on_disk(node, &enrollment.files) {
        return Ok(found);
    }
    let token = token(enrollment)?;
    let mut backoff = Backoff::default();
    loop {
        match enrol(node, enrollment, &token).await {
            Ok(enrolled) => {
                blank_token(enrollment);
                tracing::info!(%node, "certificate obtained");
                return Ok(enrolled);
            }
            Err(error) if error.is_retryable() => {
                let error = super::describe(&error);
                tracing::warn!(%node, peer = enrollment.server, error, "no certificate yet, trying again");
                let wait = backoff.next(Failure::Other, tokio::time::Instant::now());
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The stored certificate if it is this node's and not expired.
fn on_disk(node: &NodeName, files: &CertificateFiles) -> Option<(Vec<u8>, Identity)> {
    if !files.certificate.exists() {
        return None;
    }
    let read = || -> Result<_, FileError> {
        Ok((pki::files::read_ca(&files.ca)?, pki::files::read_identity(&files.certificate, &files.key)?))
    };
    let (ca, identity) = match read() {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(
                error = super::describe(&error),
                "stored certificate is not usable, enrolling again"
            );
            return None;
        }
    };
    let subject = Subject::of(identity.certificate()).ok()?;
    let ours = EdgeSubject::of(identity.certificate()).is_ok_and(|found| found.node == node.as_str());
    if !ours {
        tracing::warn!(%node, found = subject.common_name, "stored certificate is another node's, enrolling again");
        return None;
    }
    if subject.not_after <= daemon::clock::unix_seconds() {
        tracing::warn!(%node, "stored certificate has expired, enrolling again");
        return None;
    }
    Some((ca, identity))
}

fn token(enrollment: &Enrollment) -> Result<JoinToken, EnrollError> {
    let from_file =
        std::fs::read_to_string(&enrollment.token_file).ok().filter(|text| !text.trim().is_empty());
    let text = from_file.or_else(|| enrollment.token.as_ref().map(|token| token.0.clone()));
    let no_token = || EnrollError::NoToken { certificate: enrollment.files.certificate.clone() };
    JoinToken::parse(&text.ok_or_else(no_token)?).map_err(EnrollError::Token)
}

async fn enrol(
    node: &NodeName,
    enrollment: &Enrollment,
    token: &JoinToken,
) -> Result<(Vec<u8>, Identity), EnrollError> {
    let before_trust = pki::tls::client_before_trust();
    let ca = ask(before_trust, enrollment, "/ca.crt", &[], Vec::new()).await?;
    token.check_ca(&ca).map_err(EnrollError::Token)?;
    let (key, request) = pki::node_request(node.as_str()).map_err(EnrollError::Request)?;
    let trusting = pki::tls::client(&ca, None).map_err(EnrollError::Tls)?;
    let headers = [("NodeName", node.to_string()), ("Authorization", format!("Bearer {}", token.bearer()))];
    let certificate = ask(trusting, enrollment, "/edge.crt", &headers, request).await?;
    let found = EdgeSubject::of(&certificate).map_err(EnrollError::Answer)?.node;
    if found != node.as_str() {
        return Err(EnrollError::OtherNode { found });
    }
    let identity = Identity::new(certificate.into(), key);
    let files = &enrollment.files;
    pki::files::write_ca(&files.ca, &ca).map_err(EnrollError::Files)?;
    pki::files::write_identity(&files.certificate, &files.key, &identity).map_err(EnrollError::Files)?;
    Ok((ca, identity))
}

async fn ask(
    tls: std::sync::Arc<rustls::ClientConfig>,
    enrollment: &Enrollment,
    path: &str,
    headers: &[(&str, String)],
    body: Vec<u8>,
) -> Result<Vec<u8>, EnrollError> {
    let answer = https::get(tls, &enrollment.server, path, headers, body).await;
    let (status, body) = answer.map_err(EnrollError::Https)?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body).trim().chars().take(512).collect();
        return Err(EnrollError::Refused { status, text });
    }
    Ok(body.to_vec())
}

/// A token is good once; keeping it on the node would only help a thief.
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
            files: CertificateFiles { ca: file("ca"), certificate: file("crt"), key: file("key") },
            token: None,
            token_file: file("token"),
            config_file: None,
        };
        let error = obtain(&NodeName::new("e1").unwrap(), &enrollment).await.unwrap_err();
        assert!(error.to_string().contains("keadm join"), "{error}");
        std::fs::write(file("token"), "nonsense").unwrap();
        let error = obtain(&NodeName::new("e1").unwrap(), &enrollment).await.unwrap_err();
        assert!(matches!(error, EnrollError::Token(TokenError::Malformed)), "{error}");
    }

    #[test]
    fn a_used_token_is_blanked_wherever_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("edgecore.yaml"), "modules:\n  edgeHub:\n    token: abc.def\n").unwrap();
        std::fs::write(file("token"), "abc.def").unwrap();
        blank_token(&Enrollment {
            server: String::new(),
            files: CertificateFiles { ca: file("ca"), certificate: file("crt"), key: file("key") },
            token: Some(Secret("abc.def".into())),
            token_file: file("token"),
            config_file: Some(file("edgecore.yaml")),
        });
        assert!(!file("token").exists());
        assert_eq!(
            std::fs::read_to_string(file("edgecore.yaml")).unwrap(),
            "modules:\n  edgeHub:\n    token: \"\"\n"
        );
    }
}
