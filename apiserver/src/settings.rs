//! What the server is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use kubeapi::Limits;

use crate::addresses::ServiceRange;
use crate::nodes::Reach;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Holds `apiserver.db` and `pki/`, everything private to the owner.
    pub data_dir: PathBuf,
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses in the serving certificate, besides the usual ones of an API server.
    pub names: Vec<String>,
    /// Written at build, mode 0600.
    pub admin_kubeconfig: PathBuf,
    /// Programs beside the administrator that get a kubeconfig.
    pub clients: Vec<Client>,
    /// Who reaches nodes for logs, exec, attach, port-forward and `nodes/NAME/proxy`.
    pub nodes: Reach,
    /// Addresses that services are given.
    pub service_range: ServiceRange,
    /// The RSA or P-256 key (PEM) that tokens of service accounts are signed with; `None`: one that is made at the first start.
    pub service_account_signing_key: Option<PathBuf>,
    /// Which controllers run, as for kube-controller-manager's `--controllers`: `*` for all, a name for one, `-` and a name for all
    /// but that one.
    pub controllers: Vec<String>,
    /// Requests under way at once.
    pub limits: Limits,
    /// The file in which each request is told of (`kubeapi::audit`); `None`: none is.
    pub audit_log: Option<PathBuf>,
}

/// A program that uses the API with the rights that roles give it.
#[derive(Clone, Debug)]
pub struct Client {
    /// The user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    pub groups: Vec<String>,
    /// Written at build, mode 0600, with a certificate that is as long good as the administrator's.
    pub kubeconfig: PathBuf,
}
