//! The CAs, the server certificate and the join token, kept in secrets of namespace `kubeedge` so that replicas, and
//! KubeEdge's own CloudCore, share them (docs/protocol/transport.md 4.1).
//!
//! No write goes over something unseen: of two replicas that start together, or find the same thing due, one wins and
//! the other reads what it wrote. [`Keeper`] follows the secrets while the program runs. The steps of replacing a CA
//! are those of [`pki::CaSecret`]; an operator whose CA is in files (`tlsCAFile`) replaces it there and restarts.

mod keeper;
mod secrets;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apimachinery::kinds::lines;
use message::{Json, Status};
use pki::tls::{LiveServer, TlsError};
use pki::{Authority, AuthorityError, Bundle, CaSecret, IdentityError, RotationError};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::sync::watch;

use crate::kubernetes::Cluster;
pub use keeper::Keeper;

pub const NAMESPACE: &str = "kubeedge";
const CA_SECRET: &str = "casecret";
const TOKEN_SECRET: &str = "tokensecret";
const TOKEN: &str = "tokendata";

/// Times a write is tried that other replicas get in the way of.
const ATTEMPTS: u32 = 5;

/// What the hub's ports need.
pub struct Material {
    /// The CA that signed when this was read.
    pub authority: Arc<Authority>,
    /// What the ports present and whom they trust, always of today.
    pub server: LiveServer,
    /// The CAs of today.
    pub trust: watch::Receiver<Arc<Trust>>,
}

/// The CA that signs and those that are trusted.
#[derive(Debug)]
pub struct Trust {
    pub authority: Arc<Authority>,
    pub bundle: Bundle,
    /// Leads peers that know only the previous CA to this one.
    pub intermediates: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Fingerprint of the trusted CA that signed `certificate` (DER, verified). Where there is one, it did.
    pub fn signer_of(&self, certificate: &[u8]) -> Option<String> {
        match self.bundle.certificates() {
            [only] => Some(pki::fingerprint(only)),
            _ => self.bundle.signer_of(certificate).map(|ca| pki::fingerprint(ca)),
        }
    }

    fn is_same(&self, other: &Trust) -> bool {
        self.authority.certificate() == other.authority.certificate()
            && self.bundle == other.bundle
            && self.intermediates == other.intermediates
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("{what} in the API server")]
    Cluster { what: &'static str, source: Status },
    #[error("secret {NAMESPACE}/{CA_SECRET}")]
    Secret(#[source] RotationError),
    #[error("secret {NAMESPACE}/{secret} is written by others all the time")]
    Contended { secret: &'static str },
    #[error("CA files {certificate} and {key}: give both or neither")]
    HalfACa { certificate: PathBuf, key: PathBuf },
    #[error("CA files")]
    Files(#[source] pki::files::FileError),
    #[error("certificate authority")]
    Authority(#[source] AuthorityError),
    #[error("server certificate")]
    Server(#[source] IdentityError),
    #[error("TLS of the ports")]
    Tls(#[source] TlsError),
}

/// Addresses the server certificate must name, and the operator's own CA files if they exist.
#[derive(Clone, Debug)]
pub struct MaterialSettings {
    pub names: Vec<String>,
    pub ca_file: PathBuf,
    pub ca_key_file: PathBuf,
}

/// Reads or makes the material.
pub async fn obtain(
    cluster: &Cluster,
    wanted: &MaterialSettings,
) -> Result<(Material, Keeper), MaterialError> {
    ensure_namespace(cluster).await?;
    let now = daemon::clock::unix_seconds();
    let trust = Arc::new(obtain_trust(cluster, wanted, now).await?);
    let presented = server::obtain(cluster, &trust, &wanted.names, now).await?;
    let server = LiveServer::new(&presented, &trust.bundle).map_err(MaterialError::Tls)?;
    let authority = trust.authority.clone();
    let (sender, trust) = watch::channel(trust);
    let keeper = Keeper {
        cluster: cluster.clone(),
        wanted: wanted.clone(),
        presented,
        server: server.clone(),
        trust: sender,
    };
    Ok((Material { authority, server, trust }, keeper))
}

/// Looks first: where it was made beforehand, the right to see it is enough.
async fn ensure_namespace(cluster: &Cluster) -> Result<(), MaterialError> {
    match cluster.get(&lines::Namespace.path(None, NAMESPACE)).await {
        Ok(_) => return Ok(()),
        Err(status) if status.is_not_found() => {}
        Err(source) => return Err(MaterialError::Cluster { what: "looking for namespace kubeedge", source }),
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    match cluster.create(&lines::Namespace.path(None, ""), &Json::of(&namespace)).await {
        Err(source) if !source.is_conflict() => {
            Err(MaterialError::Cluster { what: "creating namespace kubeedge", source })
        }
        _ => Ok(()),
    }
}

/// The CAs as the files or the secret say; a next CA whose time has come is promoted.
async fn obtain_trust(
    cluster: &Cluster,
    wanted: &MaterialSettings,
    now: i64,
) -> Result<Trust, MaterialError> {
    let local = local_authority(&wanted.ca_file, &wanted.ca_key_file)?;
    for _ in 0..ATTEMPTS {
        let stored = secrets::read(cluster, CA_SECRET).await?;
        let Some(seen) = &stored else {
            let fresh = match &local {
                Some(local) => CaSecret::of(local),
                None => CaSecret::of(&Authority::generate(None, now).map_err(MaterialError::Authority)?),
            };
            secrets::write(cluster, CA_SECRET, None, fresh.data(), &[]).await?;
            continue;
        };
        let mut secret = CaSecret::new(seen.data());
        if let Some(local) = local {
            let bundle = secret.bundle().map_err(MaterialError::Secret)?.signed_by(local.certificate());
            return Ok(Trust { authority: Arc::new(local), bundle, intermediates: Vec::new() });
        }
        if secret.promote(now).map_err(MaterialError::Secret)? {
            if !secrets::write(cluster, CA_SECRET, stored.as_ref(), secret.data(), &[]).await? {
                continue;
            }
            tracing::info!("the next CA signs from now on");
        }
        return Ok(Trust {
            authority: Arc::new(secret.authority().map_err(MaterialError::Secret)?),
            bundle: secret.bundle().map_err(MaterialError::Secret)?,
            intermediates: secret.intermediates(),
        });
    }
    Err(MaterialError::Contended { secret: CA_SECRET })
}

fn local_authority(certificate: &Path, key: &Path) -> Result<Option<Authority>, MaterialError> {
    match (certificate.exists(), key.exists()) {
        (false, false) => Ok(None),
        (true, true) => {
            let identity = pki::files::read_identity(certificate, key).map_err(MaterialError::Files)?;
            let key = identity.private_key();
            Authority::from_der(identity.certificate(), key.secret_der())
                .map(Some)
                .map_err(MaterialError::Authority)
        }
        _ => Err(MaterialError::HalfACa { certificate: certificate.to_owned(), key: key.to_owned() }),
    }
}

/// Makes a join token and publishes it where `keadm gettoken` looks.
pub async fn publish_token(
    cluster: &Cluster,
    authority: &Authority,
    lifetime: i64,
) -> Result<(), MaterialError> {
    for _ in 0..ATTEMPTS {
        let token = pki::token::mint(authority, daemon::clock::unix_seconds() + lifetime);
        let data = BTreeMap::from([(TOKEN.to_owned(), token.into_bytes())]);
        let seen = secrets::read(cluster, TOKEN_SECRET).await?;
        if secrets::write(cluster, TOKEN_SECRET, seen.as_ref(), &data, &[]).await? {
            return Ok(());
        }
    }
    Err(MaterialError::Contended { secret: TOKEN_SECRET })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;

    #[tokio::test]
    async fn a_namespace_that_is_there_is_not_made() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let status = match *request.method() {
                Method::GET => StatusCode::OK,
                _ => StatusCode::FORBIDDEN,
            };
            let mut response = Response::new(Body::from(b"{}".to_vec()));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        });
        let cluster = Cluster::with_client(kube::Client::new(service, "default"));
        ensure_namespace(&cluster).await.unwrap();
    }
}
