//! The files in `pki/`: CA, serving certificate, admin client certificate, token signing key; and the kubeconfig.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::files::{self, FileError};
use pki::{Authority, AuthorityError, DAY, Identity, Profile, Usage};

use crate::Settings;
use crate::signer::{self, NotAKey, Signer};

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("reading or writing the keys")]
    File(#[from] FileError),
    #[error("issuing a certificate")]
    Authority(#[from] AuthorityError),
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the system gives no random numbers")]
    Random,
    #[error("{path} cannot sign tokens")]
    Signing { path: PathBuf, source: NotAKey },
    #[error("a key cannot be written as PEM")]
    Pem,
}

pub(crate) struct Keys {
    pub ca: Vec<u8>,
    /// The same with its key.
    pub authority: Arc<Authority>,
    pub serving: Identity,
    /// What kubelets are shown.
    pub kubelet_client: Identity,
    /// The CA of [`Keys::proxy_client`], and of nobody else.
    pub proxy_ca: Vec<u8>,
    /// What servers are shown that requests are handed on to: who asks is said in headers.
    pub proxy_client: Identity,
    admin: Identity,
}

const NAMES: [&str; 5] =
    ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
const LIFETIME: i64 = 365 * DAY;
/// The name in the certificate of who hands requests on.
pub(crate) const PROXY_CLIENT: &str = "front-proxy-client";
const SECRET_BYTES: usize = 32;

impl Keys {
    /// Reads the CA and the signing key, or makes them; serving and admin certificates are issued anew at each start,
    /// so they carry the current names and never expire on a server that is restarted once a year.
    pub(crate) fn prepare(settings: &Settings, now: i64) -> Result<(Keys, Signer), KeysError> {
        let folder = settings.data_dir.join("pki");
        let authority = authority(&folder, "ca", "causeway", now)?;
        let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        names.extend(settings.names.iter().cloned());
        if !settings.listen.ip().is_unspecified() {
            names.push(settings.listen.ip().to_string());
        }
        names.sort();
        names.dedup();
        let profile = |name: &str, organization: Option<&str>, names, usage| Profile {
            common_name: name.to_owned(),
            organizations: organization.map(str::to_owned).into_iter().collect(),
            names,
            usage,
            lifetime: LIFETIME,
        };
        let serving = authority.issue(&profile("kube-apiserver", None, names, Usage::Server), now)?;
        files::write_identity(&folder.join("apiserver.crt"), &folder.join("apiserver.key"), &serving)?;
        let admin = authority
            .issue(&profile("kubernetes-admin", Some("system:masters"), vec![], Usage::Client), now)?;
        files::write_identity(&folder.join("admin.crt"), &folder.join("admin.key"), &admin)?;
        let kubelet_client = authority.issue(
            &profile("kube-apiserver-kubelet-client", Some("system:masters"), vec![], Usage::Client),
            now,
        )?;
        let proxy_authority = self::authority(&folder, "front-proxy-ca", "front-proxy-ca", now)?;
        let proxy_client = proxy_authority.issue(&profile(PROXY_CLIENT, None, vec![], Usage::Client), now)?;
        let signing = match &settings.service_account_signing_key {
            Some(given) => given.clone(),
            None => own_signing_key(&folder.join("sa.pem"))?,
        };
        let pem =
            std::fs::read(&signing).map_err(|source| KeysError::Read { path: signing.clone(), source })?;
        let earlier = earlier_secret(&folder.join("sa.key"))?;
        let signer = Signer::new(&pem, earlier.as_deref())
            .map_err(|source| KeysError::Signing { path: signing, source })?;
        let keys = Keys {
            ca: authority.certificate().to_vec(),
            authority: Arc::new(authority),
            serving,
            kubelet_client,
            proxy_ca: proxy_authority.certificate().to_vec(),
            proxy_client,
            admin,
        };
        Ok((keys, signer))
    }

    /// Writes the administrator's kubeconfig and those of the clients, which are issued here.
    pub(crate) fn write_kubeconfigs(
        &self,
        settings: &Settings,
        address: SocketAddr,
    ) -> Result<(), KeysError> {
        self.write_kubeconfig(&settings.admin_kubeconfig, "admin", &self.admin, address)?;
        for client in &settings.clients {
            let profile = Profile {
                common_name: client.name.clone(),
                organizations: client.groups.clone(),
                names: vec![],
                usage: Usage::Client,
                lifetime: LIFETIME,
            };
            let identity = self.authority.issue(&profile, daemon::clock::unix_seconds())?;
            self.write_kubeconfig(&client.kubeconfig, &client.name, &identity, address)?;
        }
        Ok(())
    }

    fn write_kubeconfig(
        &self,
        path: &Path,
        user: &str,
        identity: &Identity,
        address: SocketAddr,
    ) -> Result<(), KeysError> {
        let host = match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("127.0.0.1:{}", v4.port()),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("127.0.0.1:{}", v6.port()),
            specific => specific.to_string(),
        };
        let (certificate, key) = identity.to_pem().ok_or(KeysError::Pem)?;
        let ca = STANDARD.encode(files::certificate_pem(&self.ca));
        let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: causeway\nclusters:\n- name: causeway\n  cluster:\n    \
             server: https://{host}\n    certificate-authority-data: {ca}\ncontexts:\n- name: causeway\n  context:\n    \
             cluster: causeway\n    user: {user}\nusers:\n- name: {user}\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        );
        // A bare file name has no folder that could be synced.
        let path =
            std::path::absolute(path).map_err(|source| KeysError::Read { path: path.to_owned(), source })?;
        Ok(files::write_atomic(&path, text.as_bytes(), 0o600)?)
    }
}

/// The CA in the files of this name, which is made if it is not there.
fn authority(folder: &Path, file: &str, name: &str, now: i64) -> Result<Authority, KeysError> {
    let (certificate, key) = (folder.join(format!("{file}.crt")), folder.join(format!("{file}.key")));
    if certificate.exists() {
        let identity = files::load_identity(&certificate, &key)?;
        return Ok(Authority::from_der(identity.certificate(), &identity.key_sec1().ok_or(KeysError::Pem)?)?);
    }
    let authority = Authority::generate(Some(name), now)?;
    let identity =
        Identity::from_der(authority.certificate(), authority.key_sec1()).map_err(|_| KeysError::Pem)?;
    files::write_identity(&certificate, &key, &identity)?;
    Ok(authority)
}

/// Makes the key that tokens are signed with, unless it is there.
fn own_signing_key(path: &Path) -> Result<PathBuf, KeysError> {
    if !path.exists() {
        let made = signer::generate().ok_or(KeysError::Random)?;
        files::write_atomic(path, made.as_bytes(), 0o600)?;
    }
    Ok(path.to_owned())
}

/// The secret that tokens were signed with before there were keys, if there is one.
fn earlier_secret(path: &Path) -> Result<Option<Vec<u8>>, KeysError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| bytes.len() == SECRET_BYTES)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeysError::Read { path: path.to_owned(), source }),
    }
}
