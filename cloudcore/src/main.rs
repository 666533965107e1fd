//! `cloudcore`: the cloud program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use api::config::cloudcore::CloudCoreConfig;
use api::config::keys;
use clap::Parser;
use cloudcore::kubernetes::Cluster;
use cloudcore::nodestreams::NodeStreams;
use cloudcore::settings::{self, BadSettings, Settings, Standalone};
use cloudcore::standalone;
use daemon::exit::{Exit, report};
use tokio_util::sync::CancellationToken;

/// Watches Kubernetes and keeps every edge node in step with it.
#[derive(Parser)]
#[command(name = "cloudcore", version)]
struct Flags {
    /// Configuration file, in KubeEdge's form.
    #[arg(long, default_value = "/etc/kubeedge/config/cloudcore.yaml")]
    config: PathBuf,
    /// Serve an embedded Kubernetes API from SQLite instead of joining a cluster (modules.standalone.enable).
    #[arg(long)]
    standalone: bool,
    /// Print the configuration file with all defaults and exit.
    #[arg(long)]
    defaultconfig: bool,
    /// Print the keys most installations set and exit.
    #[arg(long)]
    minconfig: bool,
    /// Check the configuration file and exit.
    #[arg(long)]
    check: bool,
    /// Write the log to this file instead of standard error: mode 0640, three files of 10 MiB.
    #[arg(long)]
    log_file: Option<PathBuf>,
    /// Log more.
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(path) = &flags.log_file {
        let opened =
            daemon::log_file::keep(path).with_context(|| format!("opening the log {}", path.display()));
        if opened.is_err() {
            return report(opened, Exit::BadUsage);
        }
    }
    daemon::logs::init(flags.verbose);
    if flags.defaultconfig || flags.minconfig {
        return print_config(flags.minconfig);
    }
    let settings = match checked(&flags) {
        Ok(settings) => settings,
        Err(error) => return report(Err(error), Exit::BadConfiguration),
    };
    if flags.check {
        return Exit::Stopped.into();
    }
    pki::install_provider();
    daemon::stop::raise_open_files();
    daemon::memory::keep_heaps_few(1);
    daemon::priority::prompt();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error.into()), Exit::Failed),
    };
    report(runtime.block_on(run(settings)), Exit::Failed)
}

fn print_config(minimal: bool) -> ExitCode {
    let config = CloudCoreConfig::default();
    let text = if minimal {
        daemon::config::to_yaml(&serde_json::json!({
            "apiVersion": config.api_version,
            "kind": config.kind,
            "kubeAPIConfig": config.kube_api_config,
            "modules": {"cloudHub": {
                "advertiseAddress": ["10.0.0.5"],
                "nodeLimit": config.modules.cloud_hub.node_limit,
                "websocket": config.modules.cloud_hub.websocket,
                "https": config.modules.cloud_hub.https,
            }},
        }))
    } else {
        daemon::config::to_yaml(&config)
    };
    let written = text.map_err(anyhow::Error::msg).and_then(|text| {
        use std::io::Write;
        std::io::stdout().write_all(text.as_bytes()).context("writing to standard output")
    });
    report(written, Exit::Failed)
}

fn checked(flags: &Flags) -> anyhow::Result<Settings> {
    let (mut config, unused): (CloudCoreConfig, _) = daemon::config::load_kind(&flags.config)?;
    config.modules.standalone.enable |= flags.standalone;
    let unused = unused.iter().map(|unused| (unused.key.as_str(), &unused.value));
    let review = keys::review(keys::CLOUDCORE, unused);
    daemon::config::tell(&flags.config, &review.warnings, &review.harmless);
    daemon::config::tell(&flags.config, &settings::warnings(&config), &[]);
    let checked = Settings::check(&config);
    let problems = checked.as_ref().err().map(|bad| bad.0.clone()).unwrap_or_default();
    let checked = match review.problems.is_empty() {
        true => checked,
        false => Err(BadSettings([review.problems, problems].concat())),
    };
    checked.with_context(|| format!("configuration file {}", flags.config.display()))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = daemon::stop::on_signals().context("listening for signals")?;
    match settings.standalone.clone() {
        None => {
            let cluster = Cluster::connect(settings.kubeconfig.clone(), &settings.master).await?;
            cloudcore::app::run(settings, cluster, NodeStreams::default(), stop).await
        }
        Some(standalone) => with_embedded(settings, standalone, stop).await,
    }
}

/// Runs the embedded API server beside CloudCore; it stops after CloudCore, which needs it to the end.
async fn with_embedded(
    settings: Settings,
    standalone: Standalone,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (names, streams) = (settings.material.names.clone(), NodeStreams::default());
    let server = apiserver::ApiServer::build(apiserver::Settings {
        data_dir: standalone.data_dir.clone(),
        listen: standalone.listen,
        names,
        admin_kubeconfig: standalone.admin_kubeconfig.clone(),
        clients: vec![standalone::client(&standalone.data_dir)],
        nodes: apiserver::Reach::Program(Arc::new(streams.clone())),
        controllers: standalone.controllers.clone(),
        limits: standalone.limits,
        service_range: standalone.service_range,
        service_account_signing_key: None,
        audit_log: standalone.audit_log.clone(),
    })
    .await?;
    tracing::info!(address = %server.address(), kubeconfig = %standalone.admin_kubeconfig.display(), "embedded API server");
    let stop_server = CancellationToken::new();
    let serving = tokio::spawn(server.run(stop_server.clone()));
    let outcome = run_against(settings, &standalone, streams, stop).await;
    stop_server.cancel();
    serving.await.context("embedded API server")??;
    outcome
}

async fn run_against(
    settings: Settings,
    embedded: &Standalone,
    streams: NodeStreams,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (admin, data_dir) = (&embedded.admin_kubeconfig, &embedded.data_dir);
    let parts = manifests::Parts {
        streams: settings.streams.is_some(),
        webhooks: settings.webhooks.is_some(),
        node_identity: settings.node_identity,
    };
    let cluster = standalone::furnish(admin, data_dir, parts).await?;
    cloudcore::app::run(settings, cluster, streams, stop).await
}
