//! `conformance`: runs the cases on the embedded API server, or on any cluster. `cargo xtask conformance` builds and runs it.
#![allow(clippy::print_stdout)] // A tool for people at a terminal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use conformance::{Embedded, Group, Known, Outcome, Summary, Verdict, connect, load, run};

#[derive(Parser)]
#[command(name = "conformance")]
struct Flags {
    /// Run on this cluster, as its administrator, instead of an embedded API server.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// A file of cases that are known to fail there, in the form of known.yaml, beside those of the embedded API server.
    #[arg(long, requires = "kubeconfig")]
    known: Option<PathBuf>,
    /// Only cases whose group and name (`group: name`) contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Take the cases of this folder.
    #[arg(long)]
    cases: Option<PathBuf>,
    /// How many cases run beside one another.
    #[arg(long, default_value_t = 16)]
    beside: usize,
    /// Show the cases that pass as well.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(conform(&flags))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn conform(flags: &Flags) -> Result<ExitCode> {
    let mut groups = load(flags.cases.as_deref())?;
    for group in &mut groups {
        let name = &group.name;
        group.cases.retain(|case| format!("{name}: {}", case.name).contains(&flags.only));
    }
    groups.retain(|group| !group.cases.is_empty());
    let (outcomes, known) = match &flags.kubeconfig {
        // What is known to fail is known of the embedded server.
        Some(kubeconfig) => {
            let known = flags.known.as_deref().map(Known::with).transpose()?.unwrap_or_default();
            (run(&connect(kubeconfig).await?, &groups, flags.beside, &known).await, known)
        }
        None => {
            let server = Embedded::start().await?;
            let known = Known::load()?;
            let outcomes = run(&server.cluster, &groups, flags.beside, &known).await;
            server.stop().await?;
            (outcomes, known)
        }
    };
    Ok(tell(flags, &groups, &outcomes, &known))
}

fn tell(flags: &Flags, groups: &[Group], outcomes: &[Outcome], known: &Known) -> ExitCode {
    for outcome in outcomes {
        let reason = known.reason(&outcome.group, &outcome.case);
        match (&outcome.verdict, reason) {
            (Verdict::Failed(_), Some(reason)) => {
                println!("known   {}: {}: {reason}", outcome.group, outcome.case);
                if flags.all {
                    println!("        {outcome}");
                }
            }
            (Verdict::Failed(_), None) => println!("FAILED  {outcome}"),
            (Verdict::Passed, Some(_)) => println!("MENDED  {outcome}, but known.yaml lists it"),
            _ if flags.all => println!("        {outcome}"),
            _ => {}
        }
        if let Some(left) = &outcome.left {
            println!("LEFT    {}: {}: {left}", outcome.group, outcome.case);
        }
    }
    println!("\n{:<20} {:>6} {:>6} {:>6} {:>6}", "group", "passed", "failed", "known", "skipped");
    let row = |name: &str, summary: Summary| {
        let Summary { passed, failed, known, skipped, .. } = summary;
        println!("{name:<20} {passed:>6} {failed:>6} {known:>6} {skipped:>6}");
    };
    for group in groups {
        let own: Vec<Outcome> =
            outcomes.iter().filter(|outcome| outcome.group == group.name).cloned().collect();
        row(&group.name, Summary::of(&own, known));
    }
    let summary = Summary::of(outcomes, known);
    row("all", summary);
    println!("RESULT {}", summary.json());
    if summary.failed + summary.mended == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
