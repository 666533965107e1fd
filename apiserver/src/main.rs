//! The API server as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use apiserver::{ApiServer, Limits, Reach, ServiceRange, Settings};
use clap::Parser;
use daemon::exit::{Exit, report};

/// An embedded Kubernetes API server on SQLite.
#[derive(Parser)]
#[command(name = "apiserver", version)]
struct Arguments {
    /// Directory of the database and the keys.
    #[arg(long, default_value = "/var/lib/causeway/apiserver")]
    data_dir: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Where to write the admin's kubeconfig.
    #[arg(long, default_value = "/etc/causeway/admin.kubeconfig")]
    admin_kubeconfig: PathBuf,
    /// A further name or address in the serving certificate (repeatable).
    #[arg(long = "name")]
    names: Vec<String>,
    /// CA of the kubelets' certificates (PEM): logs, exec, attach, port-forward and the nodes' proxy are served by reaching each
    /// node at its address.
    #[arg(long)]
    kubelet_certificate_authority: Option<PathBuf>,
    /// Which controllers run, as for kube-controller-manager: `*` for all, a name for one, `-` and a name for all but that one. The
    /// scheduler is `default-scheduler`.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// Reads under way at once, without watches and other requests that last; further ones are told to come again (429). 0: any
    /// number.
    #[arg(long, default_value_t = Limits::default().reads)]
    max_requests_inflight: usize,
    /// The same of requests that change something.
    #[arg(long, default_value_t = Limits::default().changes)]
    max_mutating_requests_inflight: usize,
    /// Addresses that services are given (IPv4). Of services that are there already, those outside keep theirs.
    #[arg(long, value_name = "RANGE", default_value_t = ServiceRange::default())]
    service_cluster_ip_range: ServiceRange,
    /// The private key that tokens of service accounts are signed with: RSA (RS256) or P-256 (ES256), PEM. Without it a P-256 key is made
    /// at the first start.
    #[arg(long, value_name = "PATH")]
    service_account_signing_key_file: Option<PathBuf>,
    /// A file in which each request is told of, in Kubernetes' form at level Metadata. Its folder has to exist; beyond 100 MiB it is
    /// put aside as PATH.1, and five such files are kept.
    #[arg(long, value_name = "PATH")]
    audit_log: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    daemon::logs::init(false);
    daemon::memory::keep_heaps_few(2);
    daemon::memory::keep_large_blocks_apart();
    daemon::stop::raise_open_files();
    daemon::priority::prompt();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => report(runtime.block_on(run(arguments)), Exit::Failed),
        Err(error) => report(Err(error.into()), Exit::Failed),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stop = daemon::stop::on_signals().context("installing signal handlers")?;
    let nodes = arguments.kubelet_certificate_authority.map_or(Reach::Nobody, |ca| Reach::Kubelets { ca });
    let server = ApiServer::build(Settings {
        data_dir: arguments.data_dir,
        listen: arguments.listen,
        names: arguments.names,
        admin_kubeconfig: arguments.admin_kubeconfig,
        clients: Vec::new(),
        nodes,
        controllers: arguments.controllers,
        limits: Limits {
            reads: arguments.max_requests_inflight,
            changes: arguments.max_mutating_requests_inflight,
        },
        service_range: arguments.service_cluster_ip_range,
        service_account_signing_key: arguments.service_account_signing_key_file,
        audit_log: arguments.audit_log,
    })
    .await
    .context("building the API server")?;
    server.run(stop).await.context("running the API server")
}
