//! Scripts of the operator, around a join or a reset.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Runs a script with bash, as KubeEdge does, whether it is executable or not. A program, or a script that is executable
/// and names its interpreter, runs as itself.
pub(crate) fn run(file: &Path) -> anyhow::Result<()> {
    // A name without a slash would be looked for on the PATH.
    let file = std::path::absolute(file)?;
    let shown = file.display();
    let mut command = if runs_itself(&file).with_context(|| format!("reading {shown}"))? {
        Command::new(&file)
    } else {
        let mut bash = Command::new("bash");
        bash.arg(&file);
        bash
    };
    let status = command.status().with_context(|| format!("running {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

fn runs_itself(file: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    let opened = std::fs::File::open(file)?;
    let is_executable = opened.metadata()?.permissions().mode() & 0o111 != 0;
    opened.take(4).read_to_end(&mut start)?;
    Ok(is_executable && (start.starts_with(b"#!") || start.starts_with(b"\x7fELF")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_runs_whether_it_is_executable_or_not_and_with_no_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let (script, mark) = (folder.path().join("pre.sh"), folder.path().join("mark"));
        for (mode, first) in [(0o644, ""), (0o755, ""), (0o644, "#!/bin/sh\n"), (0o755, "#!/bin/sh\n")] {
            std::fs::write(&script, format!("{first}echo x > {}\n", mark.display())).unwrap();
            std::fs::set_permissions(&script, PermissionsExt::from_mode(mode)).unwrap();
            run(&script).unwrap();
            std::fs::remove_file(&mark).unwrap();
        }
        std::fs::write(&script, "exit 3\n").unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(run(&script).unwrap_err().to_string().contains("exit status: 3"));
        run(Path::new("/bin/true")).unwrap();
        assert!(run(&folder.path().join("none")).is_err());
    }
}
