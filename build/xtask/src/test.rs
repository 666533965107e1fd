//! `cargo xtask test`: everything, cheapest first.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use harness::wait;

use crate::{build, deps, packages};

#[derive(Args)]
pub struct Flags {
    /// Only the checks that need no build of the tests: format, imports, lints, licences.
    #[arg(long)]
    checks: bool,
}

/// Version of cargo-deny that is installed where there is none.
const DENY_VERSION: &str = "^0.20";

pub fn run(flags: &Flags) -> Result<()> {
    packages::ensure()?;
    let mut steps: Vec<Step> = vec![
        ("format", || build::cargo(&["fmt", "--all", "--check"])),
        ("imports", || deps::run(&deps::Flags::default())),
        ("lints", || {
            build::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        }),
        ("licences and bans", deny),
    ];
    if !flags.checks {
        steps.push(("tests", tests));
    }
    let mut times = Vec::new();
    for (name, step) in steps {
        println!("== {name}");
        let start = wait::now();
        step().with_context(|| format!("step {name:?}"))?;
        times.push((name, start.elapsed()));
    }
    println!("\nAll steps passed:");
    for (name, time) in &times {
        println!("  {name:<20} {:>5} s", time.as_secs());
    }
    println!("  {:<20} {:>5} s", "together", times.iter().map(|(_, time)| *time).sum::<Duration>().as_secs());
    Ok(())
}

type Step = (&'static str, fn() -> Result<()>);

fn deny() -> Result<()> {
    if !build::has_subcommand("deny") {
        println!("installing cargo-deny");
        build::cargo(&[
            "install",
            "--quiet",
            "--debug",
            "--locked",
            "cargo-deny",
            "--version",
            DENY_VERSION,
        ])?;
    }
    build::cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
}

/// Unit, golden, room, integration and end-to-end tests. The last run real containers, which needs root.
fn tests() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        if std::env::var_os("CI").is_some() {
            bail!("the tests that run containers need root");
        }
        println!("not root: the tests that run containers say so and are skipped");
    }
    build::cargo(&["build", "--quiet", "--workspace", "--bins"])?;
    if build::has_subcommand("nextest") {
        return build::cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
    }
    // Without groups, sites and container runtimes are kept apart by running one test at a time.
    println!("cargo-nextest is not installed; cargo test runs the same tests, one at a time");
    let status = Command::new("cargo")
        .args(["test", "--quiet", "--workspace", "--", "--test-threads", "1"])
        .current_dir(build::root())
        .status()
        .context("running cargo test")?;
    if !status.success() {
        bail!("cargo test ended with {status}");
    }
    Ok(())
}
