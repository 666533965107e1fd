//! Programs that the checks run and that may be missing: installed at fixed versions, so that a check says the same on
//! every machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build;

/// A subcommand of cargo, from crates.io.
struct Tool {
    /// `cargo NAME`.
    name: &'static str,
    version: &'static str,
}

const NEXTEST: Tool = Tool { name: "nextest", version: "0.9.143" };
const DENY: Tool = Tool { name: "deny", version: "0.20" };
const MACHETE: Tool = Tool { name: "machete", version: "0.9" };

/// Runs the tests.
pub(crate) fn nextest(arguments: &[&str]) -> Result<()> {
    NEXTEST.run(arguments)
}

/// Checks licences, bans and sources of dependencies.
pub(crate) fn deny(arguments: &[&str]) -> Result<()> {
    DENY.run(arguments)
}

/// Finds dependencies that nothing uses.
pub(crate) fn machete() -> Result<()> {
    MACHETE.install()?;
    // By its own name: below a `cargo run` it takes the word of the subcommand for a folder.
    let status = Command::new("cargo-machete").arg(".").current_dir(build::root()).status();
    let status = status.context("running cargo-machete")?;
    if !status.success() {
        bail!("cargo-machete found dependencies that nothing uses, or ended with an error: {status}");
    }
    Ok(())
}

impl Tool {
    fn run(&self, arguments: &[&str]) -> Result<()> {
        self.install()?;
        build::cargo(&[&[self.name], arguments].concat())
    }

    /// Installs it where it is missing.
    fn install(&self) -> Result<()> {
        if !build::has_subcommand(self.name) {
            let (package, version) = (format!("cargo-{}", self.name), format!("^{}", self.version));
            println!("installing {package}");
            // Not optimised: it is built once and runs for seconds.
            build::cargo(&["install", "--quiet", "--debug", "--locked", &package, "--version", &version])?;
        }
        Ok(())
    }
}

/// The checker of spelling. Its builds are on PyPI; from source it takes minutes.
const TYPOS: &str = "1.52.0";

/// Runs typos over the repository.
pub(crate) fn typos() -> Result<()> {
    let folder = build::target().join(format!("tools/typos-{TYPOS}"));
    let program = find("typos", &folder.join("bin")).map_or_else(|| fetch_typos(&folder), Ok)?;
    let status = Command::new(&program)
        .args(["--format", "brief"])
        .current_dir(build::root())
        .status()
        .with_context(|| format!("running {}", program.display()))?;
    if !status.success() {
        bail!("typos found mistakes; a word that is none goes into typos.toml");
    }
    Ok(())
}

/// The program in `own`, or on the path in the version that is wanted.
fn find(name: &str, own: &Path) -> Option<PathBuf> {
    let is_wanted = |program: &PathBuf| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(TYPOS))
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own.to_owned()).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).filter(|program| program.is_file()).find(is_wanted)
}

fn fetch_typos(folder: &Path) -> Result<PathBuf> {
    println!("installing typos");
    let package = format!("typos=={TYPOS}");
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"])
        .arg(folder)
        .arg(&package)
        // It is a folder of its own, where root harms nothing.
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .status();
    if !pip.is_ok_and(|status| status.success()) {
        println!("no pip, or no build of typos for this machine: building it takes some minutes");
        let root = folder.to_string_lossy();
        build::cargo(&["install", "--quiet", "--locked", "typos-cli", "--version", TYPOS, "--root", &root])?;
    }
    Ok(folder.join("bin/typos"))
}
