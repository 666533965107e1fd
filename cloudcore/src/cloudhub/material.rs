//! The CA, the server certificate and the join token, kept in secrets of namespace `kubeedge` so that replicas, and
//! KubeEdge's own CloudCore, share them (spec/transport.md 4.1).
//!
//! Everything is create-only: of two replicas that start together one wins and the other reads what it wrote.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use message::{Json, Status};
use pki::{Authority, AuthorityError, DAY, Identity, IdentityError, Profile, Subject, Usage};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, Merge};

pub const NAMESPACE: &str = "kubeedge";
const CA_SECRET: &str = "casecret";
const SERVER_SECRET: &str = "cloudcoresecret";
const TOKEN_SECRET: &str = "tokensecret";

/// Days a server certificate is valid; renewed at start when less than a third is left.
const SERVER_DAYS: i64 = 365;

/// What the hub's ports need.
#[derive(Debug)]
pub struct Material {
    pub authority: Authority,
    pub server: Identity,
}

#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("{what} in the API server")]
    Cluster { what: &'static str, source: Status },
    #[error("secret {NAMESPACE}/{secret} has no readable key {key:?}")]
    Secret { secret: &'static str, key: &'static str },
    #[error("CA files {certificate} and {key}: give both or neither")]
    HalfACa { certificate: PathBuf, key: PathBuf },
    #[error("CA files")]
    Files(#[source] pki::files::FileError),
    #[error("certificate authority")]
    Authority(#[source] AuthorityError),
    #[error("server certificate")]
    Server(#[source] IdentityError),
}

/// Addresses the server certificate must name, and the operator's own CA files if they exist.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub names: Vec<String>,
    pub ca_file: PathBuf,
    pub ca_key_file: PathBuf,
}

/// Reads or makes the material.
pub async fn obtain(cluster: &Cluster, wanted: &Wanted) -> Result<Material, MaterialError> {
    ensure_namespace(cluster).await?;
    let now = daemon::clock::unix_seconds();
    let authority = obtain_authority(cluster, wanted, now).await?;
    let server = obtain_server(cluster, &authority, &wanted.names, now).await?;
    Ok(Material { authority, server })
}

async fn ensure_namespace(cluster: &Cluster) -> Result<(), MaterialError> {
    let body = encode(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}));
    match cluster.create("/api/v1/namespaces", &body).await {
        Err(source) if !source.is_conflict() => {
            Err(MaterialError::Cluster { what: "creating namespace kubeedge", source })
        }
        _ => Ok(()),
    }
}

async fn obtain_authority(cluster: &Cluster, wanted: &Wanted, now: i64) -> Result<Authority, MaterialError> {
    if let Some(authority) = local_authority(&wanted.ca_file, &wanted.ca_key_file)? {
        let (certificate, key) = (authority.certificate().to_vec(), authority.key_sec1().to_vec());
        create(cluster, CA_SECRET, &[("cadata", &certificate), ("cakeydata", &key)]).await?;
        return Ok(authority);
    }
    if read(cluster, CA_SECRET).await?.is_none() {
        let fresh = Authority::generate(None, now).map_err(MaterialError::Authority)?;
        create(cluster, CA_SECRET, &[("cadata", fresh.certificate()), ("cakeydata", fresh.key_sec1())])
            .await?;
    }
    let stored = read(cluster, CA_SECRET).await?.unwrap_or(Value::Null);
    let certificate = bytes(&stored, CA_SECRET, "cadata")?;
    Authority::from_der(&certificate, &bytes(&stored, CA_SECRET, "cakeydata")?)
        .map_err(MaterialError::Authority)
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

/// The stored server certificate if it is of this CA, names every address and has time left; else a new one.
async fn obtain_server(
    cluster: &Cluster,
    authority: &Authority,
    names: &[String],
    now: i64,
) -> Result<Identity, MaterialError> {
    let issuer_annotation = format!("{} {}", authority.fingerprint(), names.join(","));
    let stored = read(cluster, SERVER_SECRET).await?;
    if let Some(stored) = &stored
        && stored["metadata"]["annotations"]["causeway.io/issued-for"] == issuer_annotation.as_str()
    {
        let certificate = bytes(stored, SERVER_SECRET, "cloudcoredata")?;
        let left = Subject::of(&certificate).map_or(0, |subject| subject.not_after - now);
        if left > SERVER_DAYS * DAY / 3 {
            let key = bytes(stored, SERVER_SECRET, "cloudcorekeydata")?;
            return Identity::from_der(&certificate, &key).map_err(MaterialError::Server);
        }
    }
    let profile = Profile {
        common_name: "KubeEdge".to_owned(),
        organizations: vec!["KubeEdge".to_owned()],
        names: names.to_vec(),
        usage: Usage::Server,
        lifetime: SERVER_DAYS * DAY,
    };
    let identity = authority.issue(&profile, now).map_err(MaterialError::Authority)?;
    let key = identity.key_sec1().ok_or(MaterialError::Server(IdentityError::KeyForm))?;
    let mut secret =
        secret(SERVER_SECRET, &[("cloudcoredata", identity.certificate()), ("cloudcorekeydata", &key)]);
    secret["metadata"]["annotations"] = json!({"causeway.io/issued-for": issuer_annotation});
    put(cluster, SERVER_SECRET, &secret, stored.is_some()).await?;
    Ok(identity)
}

/// Makes a join token and publishes it where `keadm gettoken` looks.
pub async fn publish_token(
    cluster: &Cluster,
    authority: &Authority,
    lifetime: i64,
) -> Result<(), MaterialError> {
    let token = pki::token::mint(authority, daemon::clock::unix_seconds() + lifetime);
    let secret = secret(TOKEN_SECRET, &[("tokendata", token.as_bytes())]);
    let exists = read(cluster, TOKEN_SECRET).await?.is_some();
    put(cluster, TOKEN_SECRET, &secret, exists).await
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
}

fn secret(name: &str, data: &[(&str, &[u8])]) -> Value {
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, bytes)| ((*key).to_owned(), Value::String(STANDARD.encode(bytes)))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": name, "namespace": NAMESPACE}, "data": data,
    })
}

fn encode(value: &Value) -> Json {
    Json::encode(value).unwrap_or_else(|_| Json::null())
}

async fn read(cluster: &Cluster, name: &'static str) -> Result<Option<Value>, MaterialError> {
    match cluster.get(&path(name)).await {
        Ok(secret) => Ok(secret.parse().ok()),
        Err(status) if status.is_not_found() => Ok(None),
        Err(source) => Err(MaterialError::Cluster { what: "reading a secret", source }),
    }
}

/// Creates; a secret that another replica made first stays.
async fn create(cluster: &Cluster, name: &str, data: &[(&str, &[u8])]) -> Result<(), MaterialError> {
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    match cluster.create(&collection, &encode(&secret(name, data))).await {
        Err(source) if !source.is_conflict() => {
            Err(MaterialError::Cluster { what: "creating a secret", source })
        }
        _ => Ok(()),
    }
}

async fn put(cluster: &Cluster, name: &str, secret: &Value, exists: bool) -> Result<(), MaterialError> {
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    if !exists {
        match cluster.create(&collection, &encode(secret)).await {
            Err(status) if status.is_conflict() => {}
            Err(source) => return Err(MaterialError::Cluster { what: "creating a secret", source }),
            Ok(_) => return Ok(()),
        }
    }
    let patch =
        json!({"data": secret["data"], "metadata": {"annotations": secret["metadata"]["annotations"]}});
    let patched = cluster.patch(&path(name), Merge::Plain, patch.to_string()).await;
    patched.map(|_| ()).map_err(|source| MaterialError::Cluster { what: "updating a secret", source })
}

fn bytes(secret: &Value, name: &'static str, key: &'static str) -> Result<Vec<u8>, MaterialError> {
    let text = secret["data"][key].as_str().unwrap_or_default();
    let decoded = STANDARD.decode(text).unwrap_or_default();
    if decoded.is_empty() {
        return Err(MaterialError::Secret { secret: name, key });
    }
    Ok(decoded)
}
