//! TLS of the authenticated port: files are read anew when they changed, clients are told apart by their names.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use pki::tls::{ClientCertificate, LiveServer};
use pki::{Subject, files};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{Allowed, TlsPort};
use podmodel::errors::chain;

#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    #[error("reading tlsCertFile and tlsPrivateKeyFile")]
    Identity(#[source] files::FileError),
    #[error("reading authentication.x509.clientCAFile")]
    ClientCa(#[source] files::FileError),
    #[error("authentication.x509.clientCAFile is not named")]
    NoClientCa,
    #[error("using the certificate and the CAs")]
    Use(#[source] pki::tls::TlsError),
}

/// What connections are accepted with, kept by somebody else; `None` until there is a certificate, and CAs for clients.
pub(super) type Shown = watch::Receiver<Option<TlsAcceptor>>;

/// The acceptor, and whom it lets in.
#[derive(Clone)]
pub(super) struct Guard {
    allowed: Arc<Allowed>,
    certificate: Certificate,
}

#[derive(Clone)]
enum Certificate {
    Files(Files),
    /// Somebody else keeps it.
    Kept(Shown),
}

/// Files that may be replaced.
#[derive(Clone)]
struct Files {
    port: Arc<TlsPort>,
    live: LiveServer,
    acceptor: TlsAcceptor,
    /// When the files were written that are in use.
    written: Arc<Mutex<Written>>,
}

type Written = [Option<SystemTime>; 3];

impl Guard {
    pub(super) fn new(port: &TlsPort) -> Result<Guard, TlsFilesError> {
        let written = written(port);
        let (identity, trust) = read(port)?;
        let live = LiveServer::new(&identity, &trust).map_err(TlsFilesError::Use)?;
        let acceptor = acceptor(&live);
        let files =
            Files { port: Arc::new(port.clone()), live, acceptor, written: Arc::new(Mutex::new(written)) };
        Ok(Guard { allowed: Arc::new(port.allowed.clone()), certificate: Certificate::Files(files) })
    }

    /// With what is shown by another, if there is something to show.
    pub(super) fn awaiting(port: &TlsPort, shown: Shown) -> Guard {
        Guard { allowed: Arc::new(port.allowed.clone()), certificate: Certificate::Kept(shown) }
    }

    /// `None`: there is no certificate yet.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        match &self.certificate {
            Certificate::Files(files) => Some(files.acceptor.clone()),
            Certificate::Kept(shown) => shown.borrow().clone(),
        }
    }

    /// Takes over files that were replaced. Trouble leaves what is in use. Blocks.
    pub(super) fn refresh(&self) {
        if let Certificate::Files(files) = &self.certificate {
            files.refresh();
        }
    }

    /// The name of a verified client that is not served; none if it is.
    pub(super) fn refuses(&self, certificate: &[u8]) -> Option<String> {
        match Subject::of(certificate) {
            Ok(subject) if is_allowed(&subject, &self.allowed) => None,
            Ok(subject) => Some(subject.common_name),
            Err(_) => Some("unreadable certificate".to_owned()),
        }
    }
}

/// What a connection is accepted with.
pub(super) fn acceptor(live: &LiveServer) -> TlsAcceptor {
    TlsAcceptor::from(live.config(ClientCertificate::Required, &["http/1.1"]))
}

impl Files {
    fn refresh(&self) {
        let now = written(&self.port);
        {
            let mut known = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == now {
                return;
            }
            *known = now;
        }
        let changed = read(&self.port)
            .and_then(|(identity, trust)| self.live.change(&identity, &trust).map_err(TlsFilesError::Use));
        match changed {
            Ok(()) => tracing::info!("the Node API's certificates were replaced"),
            Err(error) => tracing::warn!(error = %chain(&error), "the Node API keeps its certificates"),
        }
    }
}

fn is_allowed(subject: &Subject, allowed: &Allowed) -> bool {
    allowed.clients.contains(&subject.common_name)
        || subject.organizations.iter().any(|group| allowed.groups.contains(group))
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn written(port: &TlsPort) -> Written {
    let time = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let client_ca = port.client_ca.as_deref().and_then(time);
    [time(&port.certificate), time(&port.key), client_ca]
}

fn read(port: &TlsPort) -> Result<(pki::Identity, pki::Bundle), TlsFilesError> {
    let identity = files::read_identity(&port.certificate, &port.key).map_err(TlsFilesError::Identity)?;
    let client_ca = port.client_ca.as_deref().ok_or(TlsFilesError::NoClientCa)?;
    let trust = files::read_bundle(client_ca).map_err(TlsFilesError::ClientCa)?;
    Ok((identity, trust))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_groups_of_the_list_are_served_and_nodes_are_not() {
        let subject = |name: &str, group: &str| Subject {
            common_name: name.to_owned(),
            organizations: vec![group.to_owned()],
            serial: String::new(),
            not_before: 0,
            not_after: 0,
        };
        let allowed =
            Allowed { clients: vec!["prometheus".to_owned()], groups: vec!["system:masters".to_owned()] };
        assert!(is_allowed(&subject("kube-apiserver-kubelet-client", "system:masters"), &allowed));
        assert!(is_allowed(&subject("prometheus", "x"), &allowed));
        assert!(!is_allowed(&subject("system:node:edge-2", "system:nodes"), &allowed));
        assert!(!is_allowed(&subject("x", "prometheus"), &allowed));
        assert!(!is_allowed(&subject("", ""), &Allowed::default()));
        assert!(!is_allowed(&subject("system:masters", "x"), &allowed), "a user who is called like a group");
    }
}
