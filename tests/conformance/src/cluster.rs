//! An API server, and how to be its administrator.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

/// An API server as a kubeconfig names it.
#[derive(Clone)]
pub struct Cluster {
    /// HOST:PORT.
    pub(crate) address: String,
    pub(crate) host: ServerName<'static>,
    pub(crate) admin: Arc<ClientConfig>,
    /// The administrator's, if it has no certificate.
    pub(crate) token: Option<String>,
    pub(crate) nobody: Arc<ClientConfig>,
    /// The minor version that it says it is.
    pub(crate) minor: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("reading kubeconfig {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("kubeconfig {path}: {problem}")]
    Form { path: PathBuf, problem: String },
    #[error("asking the API server for its version")]
    Version(#[source] anyhow::Error),
}

/// The current context's cluster and user of a kubeconfig: certificates in it or in files beside it, or a token.
pub(crate) fn of_kubeconfig(kubeconfig: &Path) -> Result<Cluster, ClusterError> {
    let path = kubeconfig.to_owned();
    let text = std::fs::read_to_string(kubeconfig)
        .map_err(|source| ClusterError::Read { path: path.clone(), source })?;
    let form = |problem: String| ClusterError::Form { path: path.clone(), problem };
    let config = apimachinery::yaml::parse(&text).map_err(|error| form(error.to_string()))?;
    let folder = kubeconfig.parent().unwrap_or(Path::new("."));
    read(&config, folder).map_err(form)
}

fn read(config: &Value, folder: &Path) -> Result<Cluster, String> {
    let named = |list: &str, name: &Value| {
        config[list].as_array().into_iter().flatten().find(|item| item["name"] == *name).cloned()
    };
    let context = named("contexts", &config["current-context"]).ok_or("there is no current context")?;
    let cluster = named("clusters", &context["context"]["cluster"]).ok_or("the cluster is missing")?;
    let user = named("users", &context["context"]["user"]).ok_or("the user is missing")?;
    let (cluster, user) = (&cluster["cluster"], &user["user"]);
    let server = cluster["server"].as_str().unwrap_or_default();
    let address = server.strip_prefix("https://").ok_or("the server is no https URL")?.trim_end_matches('/');
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:443") };
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let host = ServerName::try_from(host).map_err(|error| format!("the server's name: {error}"))?;
    let ca = pem(cluster, "certificate-authority", folder)?.ok_or("the certificate authority is missing")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&ca) {
        let certificate = certificate.map_err(|error| format!("the certificate authority: {error}"))?;
        roots.add(certificate).map_err(|error| format!("the certificate authority: {error}"))?;
    }
    pki::install_provider();
    let roots = Arc::new(roots);
    let builder = || ClientConfig::builder().with_root_certificates(roots.clone());
    let nobody = Arc::new(builder().with_no_client_auth());
    let token = user["token"].as_str().map(str::to_owned);
    let admin = match (pem(user, "client-certificate", folder)?, pem(user, "client-key", folder)?) {
        (Some(certificate), Some(key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
            let chain = chain.map_err(|error| format!("the client certificate: {error}"))?;
            let key =
                PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("the client key: {error}"))?;
            let config = builder().with_client_auth_cert(chain, key);
            Arc::new(config.map_err(|error| format!("the client certificate: {error}"))?)
        }
        _ if token.is_some() => nobody.clone(),
        _ => return Err("the user has neither a certificate nor a token".to_owned()),
    };
    Ok(Cluster { address, host, admin, token, nobody, minor: 0 })
}

/// What `KEY-data` holds, or the file that `KEY` names.
fn pem(fields: &Value, key: &str, folder: &Path) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = fields[format!("{key}-data")].as_str() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data);
        return decoded.map(Some).map_err(|error| format!("{key}-data: {error}"));
    }
    let Some(file) = fields[key].as_str() else { return Ok(None) };
    std::fs::read(folder.join(file)).map(Some).map_err(|error| format!("{key} {file}: {error}"))
}
