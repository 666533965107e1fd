//! `mapper-virtual`: serves virtual thermometers to EdgeCore.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use daemon::exit::{self, Exit};
use mapper_sdk::{Mapper, Settings};
use mapper_virtual::Thermometer;

/// A mapper of thermometers that exist only in this process.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file in KubeEdge's mapper form.
    #[arg(long, default_value = "./config.yaml")]
    config_file: PathBuf,
    /// Log what happens in detail.
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::BadUsage.into() } else { Exit::Stopped.into() };
        }
    };
    daemon::logs::init(arguments.verbose);
    match mapper_sdk::load(&arguments.config_file) {
        Ok(settings) => exit::report(run(settings), Exit::Failed),
        Err(error) => exit::report(Err(error.into()), Exit::BadConfiguration),
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("starting the runtime")?.block_on(async {
        let stop = daemon::stop::on_signals().context("listening for signals")?;
        let mapper = Mapper::build(settings, Thermometer::open)?;
        mapper.run(stop).await;
        Ok(())
    })
}
