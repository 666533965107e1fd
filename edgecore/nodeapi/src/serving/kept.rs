//! The certificate on the node's disk, with its key (0600), and the cluster's CAs beside it.

use std::io;
use std::path::PathBuf;

use pki::files::{self, FileError};
use pki::{Bundle, Identity, Subject, SubjectError};

/// Beside the certificate.
const CAS: &str = "cluster-ca.crt";
/// The same: certificates between it and the cluster's CA, if there are some.
const INTERMEDIATES: &str = "kubelet-server-intermediates.crt";

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
    /// What it is for.
    hosts: Vec<String>,
    /// What it should be for: all names and addresses of the node when it was asked for, if that is known.
    wanted: Vec<String>,
    /// Unix seconds.
    pub validity: (i64, i64),
}

impl Held {
    /// True if it was asked for when the node was called like this.
    pub(super) fn is_for(&self, hosts: &[String]) -> bool {
        let are_in = |these: &[String], those: &[String]| these.iter().all(|host| those.contains(host));
        are_in(hosts, &self.wanted) && are_in(&self.wanted, hosts)
    }

    /// True if the node has addresses that it is not for.
    pub(super) fn is_partial(&self) -> bool {
        self.hosts.len() < self.wanted.len()
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
            let path = files.certificate.with_file_name(INTERMEDIATES);
            let intermediates = match files::is_written(&path) {
                true => files::read_bundle(&path).map_err(KeptError::File)?.certificates().to_vec(),
                false => Vec::new(),
            };
            files.held(identity.with_intermediates(intermediates)).map(Some)
        })
        .await
    }

    /// `wanted` are all names and addresses of the node.
    pub(super) async fn write(&self, identity: Identity, wanted: Vec<String>) -> Result<Held, KeptError> {
        let files = self.clone();
        blocking(move || {
            files.write_intermediates(&identity)?;
            files::write_identity(&files.certificate, &files.key, &identity).map_err(KeptError::File)?;
            Ok(Held { wanted, ..files.held(identity)? })
        })
        .await
    }

    /// Before the certificate: one that needs none is shown with those of the one before at worst, which clients pass over.
    #[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
    fn write_intermediates(&self, identity: &Identity) -> Result<(), KeptError> {
        let path = self.certificate.with_file_name(INTERMEDIATES);
        let all = identity.intermediates();
        match all.split_first() {
            Some((first, rest)) => {
                let bundle = rest.iter().fold(Bundle::of(first), |bundle, next| bundle.with(next));
                files::write_bundle(&path, &bundle).map_err(KeptError::File)
            }
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KeptError::Thread(error)),
                _ => Ok(()),
            },
        }
    }

    fn held(&self, identity: Identity) -> Result<Held, KeptError> {
        let unreadable = |source| KeptError::Certificate { path: self.certificate.clone(), source };
        let hosts = pki::hosts_of(identity.certificate()).map_err(unreadable)?;
        let subject = Subject::of(identity.certificate()).map_err(unreadable)?;
        let wanted = hosts.clone();
        Ok(Held { identity, hosts, wanted, validity: (subject.not_before, subject.not_after) })
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
