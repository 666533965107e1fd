//! EdgeCore: the edge end of Causeway. Checks the configuration, then builds and joins the parts, each a crate beside this one: `metamanager`,
//! `edgehub`, `edged`, `devices`. See ARCHITECTURE.md for the two streets.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

mod app;
mod applications;
mod doors;
mod metrics;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use daemon::exit::{Exit, report};

/// Runs this node's pods and devices, in step with the cloud when it can be reached and alone when not.
#[derive(Parser)]
#[command(name = "edgecore", version)]
struct Flags {
    /// Configuration file, in KubeEdge's form.
    #[arg(long, default_value = "/etc/kubeedge/config/edgecore.yaml")]
    config: PathBuf,
    /// Print the configuration file with all defaults and exit.
    #[arg(long)]
    defaultconfig: bool,
    /// Print the keys most installations set and exit.
    #[arg(long)]
    minconfig: bool,
    /// Run no pods: be the API server of a kubelet, kube-proxy and others on this node (docs/metaserver.md).
    #[arg(long)]
    hub: bool,
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
    let runs = !(flags.check || flags.defaultconfig || flags.minconfig);
    let one_heap = if runs { daemon::memory::share_one_heap() } else { Ok(()) };
    if let Some(path) = &flags.log_file {
        let opened =
            daemon::log_file::keep(path).with_context(|| format!("opening the log {}", path.display()));
        if opened.is_err() {
            return report(opened, Exit::BadUsage);
        }
    }
    daemon::logs::init(flags.verbose);
    if let Err(error) = one_heap {
        tracing::info!(%error, "could not start again with one heap: this takes about a tenth more memory");
    }
    if flags.defaultconfig || flags.minconfig {
        return report(print_config(flags.minconfig), Exit::Failed);
    }
    let settings = match edgesettings::load(&flags.config, flags.hub) {
        Ok(settings) => settings,
        Err(error) => return report(Err(error), Exit::BadConfiguration),
    };
    if flags.check {
        return Exit::Stopped.into();
    }
    daemon::memory::keep_large_blocks_apart();
    daemon::priority::prompt();
    pki::install_provider();
    daemon::stop::raise_open_files();
    // One thread for all that waits: an edge node has better uses for its cores and memory. What blocks or takes long
    // (disk, database, large messages, the MQTT broker) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let stop = daemon::stop::on_signals().context("listening for signals")?;
            app::run(settings, stop).await
        }),
        Err(error) => Err(error.into()),
    };
    report(result, Exit::Failed)
}

fn print_config(minimal: bool) -> anyhow::Result<()> {
    use std::io::Write;
    let text = edgesettings::example(minimal)?;
    std::io::stdout().write_all(text.as_bytes()).context("writing to standard output")
}
