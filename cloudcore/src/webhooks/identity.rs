//! The certificate this room shows: of CloudCore's CA, made anew when another CA signs and well before it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pki::tls::{LiveServer, TlsError};
use pki::{DAY, Identity, Profile, Subject, SubjectError, Usage};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Reached;
use crate::cloudhub::material::Trust;

/// Days a certificate is valid; each replica has its own.
const DAYS: i64 = 365;
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(600);
/// By which API servers call the Service.
const NAME: &str = "cloudcore-webhooks.kubeedge.svc";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("signing a certificate")]
    Sign(#[source] pki::AuthorityError),
    #[error("reading the certificate that was signed")]
    Read(#[source] SubjectError),
    #[error("using the certificate")]
    Use(#[source] TlsError),
}

pub(super) struct Shown {
    names: Vec<String>,
    trust: watch::Receiver<Arc<Trust>>,
    live: LiveServer,
    /// Unix seconds after which another one is made.
    due: i64,
}

impl Shown {
    pub(super) fn build(
        reached: &Reached,
        mut trust: watch::Receiver<Arc<Trust>>,
    ) -> Result<Shown, IdentityError> {
        let mut names = vec![NAME.to_owned()];
        if let Reached::Url(url) = reached {
            names.push(url.host.clone());
        }
        let now = trust.borrow_and_update().clone();
        let (identity, due) = issue(&now, &names)?;
        let live = LiveServer::new(&identity, &now.bundle).map_err(IdentityError::Use)?;
        Ok(Shown { names, trust, live, due })
    }

    /// Follows every change. Clients are not asked for certificates: API servers have none that CloudCore would know.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(self.live.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Keeps the certificate up to date.
    pub(super) async fn follow(mut self) -> Infallible {
        loop {
            let changed = tokio::time::timeout(LOOK, self.trust.changed()).await;
            if let Ok(Err(_)) = changed {
                // Nobody keeps the CA any more: the program ends.
                return std::future::pending().await;
            }
            if changed.is_err() && daemon::clock::unix_seconds() < self.due {
                continue;
            }
            let trust = self.trust.borrow_and_update().clone();
            let made = issue(&trust, &self.names).and_then(|(identity, due)| {
                self.live.change(&identity, &trust.bundle).map_err(IdentityError::Use)?;
                Ok(due)
            });
            match made {
                Ok(due) => self.due = due,
                Err(error) => {
                    let error = daemon::errors::describe(&error);
                    tracing::warn!(error, "the admission webhooks go on with their former certificate");
                }
            }
        }
    }
}

/// A certificate, and when it is due: with a third of its life left.
fn issue(trust: &Trust, names: &[String]) -> Result<(Identity, i64), IdentityError> {
    let profile = Profile {
        common_name: "KubeEdge".to_owned(),
        organizations: vec!["KubeEdge".to_owned()],
        names: names.to_vec(),
        usage: Usage::Server,
        lifetime: DAYS * DAY,
    };
    let now = daemon::clock::unix_seconds();
    let identity = trust.authority.issue(&profile, now).map_err(IdentityError::Sign)?;
    let subject = Subject::of(identity.certificate()).map_err(IdentityError::Read)?;
    let due = subject.not_after - (subject.not_after - now) / 3;
    Ok((identity.with_intermediates(trust.intermediates.clone()), due))
}

#[cfg(test)]
mod tests {
    use pki::{Authority, Bundle};

    use super::*;

    fn trust(authority: Authority, bundle: Bundle) -> Arc<Trust> {
        Arc::new(Trust { authority: Arc::new(authority), bundle, intermediates: Vec::new() })
    }

    fn authority() -> Authority {
        pki::install_provider();
        Authority::generate(None, daemon::clock::unix_seconds()).unwrap()
    }

    #[test]
    fn a_certificate_names_the_service_and_is_due_with_a_third_of_its_life_left() {
        let authority = authority();
        let bundle = Bundle::of(authority.certificate());
        let (identity, due) = issue(&trust(authority, bundle), &[NAME.to_owned()]).unwrap();
        let subject = Subject::of(identity.certificate()).unwrap();
        let now = daemon::clock::unix_seconds();
        assert!(due < subject.not_after - DAYS * DAY / 4 && due > now + DAYS * DAY / 2);
    }
}
