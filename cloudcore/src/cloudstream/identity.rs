//! What the stream server shows and whom it believes.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pki::tls::{ClientCertificate, LiveServer, TlsError};
use pki::{Bundle, BundleError, DAY, Identity, Profile, Usage, files};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Settings;
use crate::cloudhub::material::Trust;

/// Days a certificate that CloudCore's CA signs for this is valid.
const DAYS: i64 = 365;
/// How often files are read again, and a certificate is signed anew.
const LOOK: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("reading modules.cloudStream.tlsStreamCAFile")]
    ClientCa(#[source] files::FileError),
    #[error(
        "no CA of API servers is known: the cluster's own is the system's, so give modules.cloudStream.tlsStreamCAFile"
    )]
    NoClientCa,
    #[error("reading the cluster's CA")]
    ClusterCa(#[source] BundleError),
    #[error("reading modules.cloudStream.tlsStreamCertFile and tlsStreamPrivateKeyFile")]
    Files(#[source] files::FileError),
    #[error("signing a certificate")]
    Sign(#[source] pki::AuthorityError),
    #[error("using the certificate and the CAs")]
    Use(#[source] TlsError),
    #[error("reading the CA and the certificate")]
    Read(#[source] std::io::Error),
}

/// Both, as they are now.
pub(super) struct Shown {
    from: Source,
    live: LiveServer,
}

/// What they are read from.
struct Source {
    settings: Settings,
    cluster_ca: String,
    trust: watch::Receiver<Arc<Trust>>,
}

impl Source {
    async fn read(&mut self) -> Result<(Identity, Bundle), IdentityError> {
        let (settings, cluster_ca) = (self.settings.clone(), self.cluster_ca.clone());
        let trust = self.trust.borrow_and_update().clone();
        let read = move || Ok(of_files(&settings, &cluster_ca, &trust));
        daemon::blocking(read).await.map_err(IdentityError::Read)?
    }
}

impl Shown {
    pub(super) async fn build(
        settings: &Settings,
        cluster_ca: &str,
        trust: watch::Receiver<Arc<Trust>>,
    ) -> Result<Shown, IdentityError> {
        let mut from = Source { settings: settings.clone(), cluster_ca: cluster_ca.to_owned(), trust };
        let (identity, believed) = from.read().await?;
        Ok(Shown { from, live: LiveServer::new(&identity, &believed).map_err(IdentityError::Use)? })
    }

    /// Follows every change.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.live.config(ClientCertificate::Optional, &["http/1.1"]))
    }

    /// Keeps both up to date: files may be replaced, the CA may be another, and a certificate ends.
    pub(super) async fn follow(mut self) -> Infallible {
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(LOOK, self.from.trust.changed()).await {
                // Nobody keeps the CA any more: the program ends.
                return std::future::pending().await;
            }
            let read = self.from.read().await;
            let changed = read.and_then(|(identity, believed)| {
                self.live.change(&identity, &believed).map_err(IdentityError::Use)
            });
            if let Err(error) = changed {
                tracing::warn!(error = %daemon::errors::describe(&error), "the stream server goes on with its former certificate and CAs");
            }
        }
    }
}

/// Blocks.
fn of_files(
    settings: &Settings,
    cluster_ca: &str,
    trust: &Trust,
) -> Result<(Identity, Bundle), IdentityError> {
    let believed = match exists(&settings.client_ca) {
        true => files::read_bundle(&settings.client_ca).map_err(IdentityError::ClientCa)?,
        false if cluster_ca.is_empty() => return Err(IdentityError::NoClientCa),
        false => Bundle::from_pem(cluster_ca.as_bytes()).map_err(IdentityError::ClusterCa)?,
    };
    let identity = match exists(&settings.certificate) {
        true => files::read_identity(&settings.certificate, &settings.key).map_err(IdentityError::Files)?,
        false => {
            let profile = Profile {
                common_name: "KubeEdge".to_owned(),
                organizations: vec!["KubeEdge".to_owned()],
                names: settings.names.clone(),
                usage: Usage::Server,
                lifetime: DAYS * DAY,
            };
            let now = daemon::clock::unix_seconds();
            trust.authority.issue(&profile, now).map_err(IdentityError::Sign)?
        }
    };
    Ok((identity, believed))
}

fn exists(path: &Path) -> bool {
    path.exists()
}
