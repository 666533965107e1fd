//! Where the binaries under test are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// A folder with `cloudcore`, `edgecore`, `keadm` and the mappers.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The binaries of `CAUSEWAY_BIN`, else those built beside the running test or tool.
    pub fn find() -> Result<Programs> {
        if let Some(folder) = std::env::var_os("CAUSEWAY_BIN") {
            return Programs::in_folder(Path::new(&folder));
        }
        let mut folder = std::env::current_exe()?;
        folder.pop();
        if folder.ends_with("deps") {
            folder.pop();
        }
        Programs::in_folder(&folder)
    }

    pub fn in_folder(folder: &Path) -> Result<Programs> {
        for name in ["cloudcore", "edgecore", "keadm"] {
            if !folder.join(name).is_file() {
                bail!("{} is missing; run cargo build --workspace --bins", folder.join(name).display());
            }
        }
        Ok(Programs { folder: folder.to_owned() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Size of a binary in KiB.
    pub fn size_kb(&self, name: &str) -> Result<u64> {
        Ok(std::fs::metadata(self.path(name))?.len() / 1024)
    }

    /// Runs keadm; an error carries what it printed.
    pub fn keadm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.path("keadm"));
        command.args(arguments);
        run(command)
    }
}

/// Runs a command to its end and gives its standard output.
pub fn run(mut command: Command) -> Result<String> {
    let output = output(&mut command)?;
    if !output.status.success() {
        let (shown, error) = (shown(&command), String::from_utf8_lossy(&output.stderr));
        bail!("{shown} ended with {}: {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as it may be printed: a join token may not.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    let mut secret = false;
    for argument in command.get_args() {
        let text = argument.to_string_lossy();
        words.push(if secret { "(token)".to_owned() } else { text.clone().into_owned() });
        secret = matches!(text.as_ref(), "-t" | "--token");
    }
    words.join(" ")
}

/// Runs a command to its end, whatever it ends with.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("running {command:?}"))
}
