//! What this node has on disk: whom it trusts and who it is.

use daemon::errors::describe;
use message::NodeName;
use pki::files::FileError;
use pki::tls::{LiveClient, TlsError};
use pki::{Bundle, EdgeSubject, Identity, Subject};

use super::CertificateFiles;

/// Whom this node trusts, and its certificate with its key.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub trust: Bundle,
    pub identity: Identity,
}

/// What the certificate files hold.
pub(super) enum StoredCredentials {
    Good(Credentials),
    /// This node's, past its end (Unix seconds).
    Expired(Credentials, i64),
    Nothing,
}

impl Credentials {
    /// Presents this identity to servers of these CAs.
    pub(crate) fn live(&self) -> Result<LiveClient, TlsError> {
        LiveClient::new(&self.trust, Some(&self.identity))
    }

    /// When the certificate begins and ends (Unix seconds).
    pub(crate) fn validity(&self) -> (i64, i64) {
        Subject::of(self.identity.certificate())
            .map_or((0, 0), |subject| (subject.not_before, subject.not_after))
    }

    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.validity().1 <= now
    }
}

/// Reads the files. What is there but not usable is told in the log.
pub(super) fn on_disk(node: &NodeName, files: &CertificateFiles, now: i64) -> StoredCredentials {
    if !pki::files::is_written(&files.certificate) {
        return StoredCredentials::Nothing;
    }
    let read = || -> Result<_, FileError> {
        let trust = pki::files::read_bundle(&files.ca)?;
        Ok(Credentials { trust, identity: pki::files::load_identity(&files.certificate, &files.key)? })
    };
    let credentials = match read() {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = describe(&error), "stored certificate is not usable, enrolling again");
            return StoredCredentials::Nothing;
        }
    };
    if let Err(error) = credentials.live() {
        tracing::warn!(error = describe(&error), "stored certificate is not usable, enrolling again");
        return StoredCredentials::Nothing;
    }
    match EdgeSubject::of(credentials.identity.certificate()) {
        Ok(found) if found.node == node.as_str() => {}
        other => {
            let found = other.map_or_else(|error| error.to_string(), |found| found.node);
            tracing::warn!(%node, found, "stored certificate is not this node's, enrolling again");
            return StoredCredentials::Nothing;
        }
    }
    let (_, end) = credentials.validity();
    if end <= now {
        StoredCredentials::Expired(credentials, end)
    } else {
        StoredCredentials::Good(credentials)
    }
}
