//! Running cargo.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::programs::Programs;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map_or(own.clone(), PathBuf::from)
}

/// Runs cargo in the workspace; its output goes to the terminal.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_with(arguments, &[])
}

/// The same with environment variables.
pub(crate) fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).envs(variables.iter().copied()).current_dir(root());
    let status = command.status().context("running cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// True if `cargo <name>` exists.
pub(crate) fn has_subcommand(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(format!("cargo-{name}")).is_file())
}

/// The target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The programs people install.
pub(crate) const PROGRAMS: [&str; 4] = ["cloudcore", "edgecore", "keadm", "mapper-virtual"];

/// The programs people install and what measures them, as release builds.
pub(crate) fn release() -> Result<Programs> {
    programs("release", &[&PROGRAMS[..], &["apiserver", "load"]].concat())
}

/// The programs people install, as release builds.
pub(crate) fn installed() -> Result<Programs> {
    programs("release", &PROGRAMS)
}

/// The programs people install, built as fast as can be.
pub(crate) fn demo() -> Result<Programs> {
    programs("demo", &PROGRAMS)
}

fn programs(profile: &str, packages: &[&str]) -> Result<Programs> {
    let mut arguments = vec!["build", "--quiet", "--profile", profile];
    arguments.extend(packages.iter().flat_map(|package| ["-p", package]));
    cargo(&arguments)?;
    Programs::in_folder(&target().join(profile))
}
