//! Informers of Python, JavaScript and kube-rs over cuts of their connections and kills of the API server: what they missed, told twice, or made up.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use clients::informers;
use clients::server::Interrupted;
use harness::clients::Installed;
use harness::programs::Programs;
use harness::wait;

use crate::result::{Results, rounded};

#[derive(Args)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    /// The target folder that the clients are installed below; else the one that this program is in.
    #[arg(long)]
    clients: Option<PathBuf>,
    /// Interruptions: of three, two cut all connections, with changes meanwhile, and one kills the API server.
    #[arg(long, default_value_t = 50)]
    times: usize,
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let installed = match &flags.clients {
        Some(target) => Installed::below(target),
        None => Installed::find()?,
    };
    let pause = Duration::from_secs(flags.minutes * 60) / u32::try_from(flags.times)?.max(1);
    let began = wait::now();
    let mut ground = Interrupted::start(&Programs::in_folder(&flags.programs)?)?;
    let all =
        informers::run(&mut ground, &installed, flags.times, pause).context("following with informers")?;
    let kills = (0..flags.times).filter(|at| Interrupted::is_kill(*at)).count();
    let mut results = Results::default();
    results.add("minutes", "minutes", rounded(began.elapsed().as_secs_f64() / 60.0));
    results.add("cuts", "cuts of all connections", flags.times - kills);
    results.add("kills", "kills of the API server", kills);
    let mut wrong = Vec::new();
    for told in &all {
        let key = told.client.to_lowercase().replace('-', "_");
        let verdict = &told.verdict;
        results.add(&format!("{key}_told"), &format!("{}: events", told.client), verdict.told);
        for (what, list) in
            [("missed", &verdict.missed), ("doubled", &verdict.doubled), ("phantom", &verdict.phantom)]
        {
            results.add(&format!("{key}_{what}"), &format!("{}: {what}", told.client), list.len());
            wrong.extend(list.iter().map(|one| format!("{}: {what}: {one}", told.client)));
        }
    }
    results.print();
    if !wrong.is_empty() {
        bail!("events are wrong:\n{}", wrong.join("\n"));
    }
    Ok(())
}
