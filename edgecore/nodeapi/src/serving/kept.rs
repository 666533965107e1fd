//! The certificate on the node's disk, with its key (0600), and the cluster's CAs beside it.

use std::io;
use std::path::PathBuf;

use pki::files::{self, FileError};
use pki::{Bundle, Identity, Subject, SubjectError};

/// Beside the certificate.
const CAS: &str = "cluster-ca.crt";

#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("the certificate and its key")]
    File(#[source] FileError),
    #[error("the certificate {path}")]
    Certificate { path: PathBuf, source: SubjectError },
    #[error("a thread for files")]
    Thread(#[source] io::Error),
}

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A certificate with its key, and what it says.
#[derive(Debug)]
pub(super) struct Held {
    pub identity: Identity,
    hosts: Vec<String>,
    /// Unix seconds.
    pub validity: (i64, i64),
}

impl Held {
    /// True if it names all of `hosts` and no other.
    pub(super) fn is_for(&self, hosts: &[String]) -> bool {
        hosts.iter().all(|host| self.hosts.contains(host))
            && self.hosts.iter().all(|host| hosts.contains(host))
    }
}

impl Files {
    /// `None`: there is none yet.
    pub(super) async fn load(&self) -> Result<Option<Held>, KeptError> {
        let files = self.clone();
        blocking(move || {
            if !files::is_written(&files.certificate) {
                return Ok(None);
            }
            let identity = files::load_identity(&files.certificate, &files.key).map_err(KeptError::File)?;
            files.held(identity).map(Some)
        })
        .await
    }

    pub(super) async fn write(&self, identity: Identity) -> Result<Held, KeptError> {
        let files = self.clone();
        blocking(move || {
            files::write_identity(&files.certificate, &files.key, &identity).map_err(KeptError::File)?;
            files.held(identity)
        })
        .await
    }

    fn held(&self, identity: Identity) -> Result<Held, KeptError> {
        let unreadable = |source| KeptError::Certificate { path: self.certificate.clone(), source };
        let hosts = pki::hosts_of(identity.certificate()).map_err(unreadable)?;
        let subject = Subject::of(identity.certificate()).map_err(unreadable)?;
        Ok(Held { identity, hosts, validity: (subject.not_before, subject.not_after) })
    }

    fn cas(&self) -> PathBuf {
        self.certificate.with_file_name(CAS)
    }

    /// The cluster's CAs as the cloud told them last; `None`: it has not.
    pub(super) async fn cluster_cas(&self) -> Result<Option<Bundle>, KeptError> {
        let path = self.cas();
        blocking(move || match files::is_written(&path) {
            true => files::read_bundle(&path).map(Some).map_err(KeptError::File),
            false => Ok(None),
        })
        .await
    }

    pub(super) async fn write_cas(&self, trust: Bundle) -> Result<(), KeptError> {
        let path = self.cas();
        blocking(move || files::write_bundle(&path, &trust).map_err(KeptError::File)).await
    }
}

/// CAs of a file that somebody else writes.
pub(super) async fn read_cas(path: PathBuf) -> Result<Option<Bundle>, KeptError> {
    blocking(move || files::read_bundle(&path).map(Some).map_err(KeptError::File)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeptError> + Send + 'static,
) -> Result<T, KeptError> {
    daemon::blocking(move || Ok(work())).await.map_err(KeptError::Thread)?
}
