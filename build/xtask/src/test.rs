//! `cargo xtask test`: everything, cheapest first.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use harness::wait;

use crate::{build, chart, clients, deps, docs, msrv, packages, tools};

#[derive(Args)]
pub(crate) struct Flags {
    /// Only the checks that need no build of the tests: format, imports, references, spelling, lints, licences.
    #[arg(long)]
    checks: bool,
    /// Fail where there is no compiler of the oldest Rust that Cargo.toml promises to build with.
    #[arg(long)]
    msrv: bool,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    packages::ensure()?;
    let mut steps = checks(flags.msrv);
    if !flags.checks {
        steps.push(("pages of the code", Box::new(pages)));
        steps.push(("tests", Box::new(tests)));
        steps.push(("examples in the code", Box::new(examples)));
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

type Step = (&'static str, Box<dyn Fn() -> Result<()>>);

fn checks(must_msrv: bool) -> Vec<Step> {
    vec![
        ("format", Box::new(|| build::cargo(&["fmt", "--all", "--check"]))),
        ("imports", Box::new(|| deps::run(&deps::Flags::default()))),
        ("references", Box::new(docs::check)),
        ("chart", Box::new(chart::check)),
        ("spelling", Box::new(tools::typos)),
        ("unused dependencies", Box::new(tools::machete)),
        ("lints", Box::new(lints)),
        ("oldest Rust", Box::new(move || msrv::run(must_msrv))),
        (
            "licences and bans",
            Box::new(|| tools::deny(&["--log-level", "error", "check", "bans", "licenses", "sources"])),
        ),
    ]
}

fn lints() -> Result<()> {
    build::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

/// What `cargo doc` says of a link that leads nowhere is an error.
fn pages() -> Result<()> {
    build::cargo_with(&["doc", "--quiet", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])
}

/// Unit, golden, room, integration and end-to-end tests. The last run real containers, which needs root.
fn tests() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        if std::env::var_os("CI").is_some() {
            bail!("the tests that run containers need root");
        }
        println!("not root: the tests that run containers say so and are skipped");
    }
    clients::ensure()?;
    build::cargo(&["build", "--quiet", "--workspace", "--bins"])?;
    tools::nextest(&["run", "--workspace", "--no-fail-fast"])
}

/// Examples in doc comments, which nextest does not run.
fn examples() -> Result<()> {
    build::cargo(&["test", "--quiet", "--workspace", "--doc"])
}
