//! The oldest Rust that builds this: what Cargo.toml promises, the README says, and a compiler of that version confirms.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::build;

/// With `must`, a machine that has no such compiler fails the check instead of saying so.
pub(crate) fn run(must: bool) -> Result<()> {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let readme = std::fs::read_to_string(build::root().join("README.md")).context("reading README.md")?;
    let told = format!("Rust {promised}");
    ensure!(
        readme.contains(&told),
        "Cargo.toml promises to build with {told}, and README.md does not say so"
    );
    let own = version(&["--version"])?;
    if is_of(&own, promised) {
        // All other steps build with this very compiler.
        println!("oldest Rust: {promised}, the compiler of this run ({own})");
        return Ok(());
    }
    let toolchain = format!("+{promised}.0");
    if version(&[&toolchain, "--version"]).is_ok_and(|version| is_of(&version, promised)) {
        return check_with(&toolchain);
    }
    let lacks = format!("there is no toolchain {promised}.0 here (rustup toolchain install {promised}.0)");
    if must {
        bail!("the oldest Rust cannot be checked: {lacks}");
    }
    println!("oldest Rust: {promised} is not checked with this compiler ({own}); {lacks}");
    Ok(())
}

/// Checks all crates with it, in a folder of its own: the other compiler's files would be made anew.
fn check_with(toolchain: &str) -> Result<()> {
    let target = build::target().join("msrv");
    let status = Command::new("cargo")
        .args([toolchain, "check", "--quiet", "--workspace", "--locked"])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(build::root())
        .status()
        .context("running cargo with the oldest Rust")?;
    ensure!(status.success(), "cargo {toolchain} check ended with {status}");
    Ok(())
}

/// `1.95.0` of `rustc 1.95.0 (...)`.
fn version(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(arguments).output().context("running rustc")?;
    ensure!(output.status.success(), "rustc {} failed", arguments.join(" "));
    let text = String::from_utf8_lossy(&output.stdout);
    text.split(' ').nth(1).map(str::to_owned).with_context(|| format!("rustc says {text:?} of itself"))
}

/// True if `1.95.1` is a release of `1.95`.
fn is_of(version: &str, promised: &str) -> bool {
    version.strip_prefix(promised).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn a_release_is_of_its_own_minor_version_only() {
        assert!(is_of("1.95.0", "1.95") && is_of("1.95.3", "1.95"));
        assert!(!is_of("1.950.0", "1.95") && !is_of("1.96.0", "1.95"));
    }
}
