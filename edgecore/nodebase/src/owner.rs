//! Whose a pod in the runtime is. Several node agents may share one runtime (installations under folders of their own, a
//! kubelet): each marks what it makes, and lets be what others made.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::Settings;

/// Label with the folder of the installation that made a sandbox or a container.
pub const NODE_ROOT: &str = "causeway.io/node-root";

/// The mark of an installation: its folder, which is the same when it has lost its database.
pub fn mark(settings: &Settings) -> String {
    settings.root_dir.display().to_string()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Us,
    Another,
    /// It carries no mark: another program made it, or an older version of this one.
    Unknown,
}

pub fn of(labels: &HashMap<String, String>, mark: &str) -> Owner {
    match labels.get(NODE_ROOT) {
        Some(theirs) if theirs == mark => Owner::Us,
        Some(_) => Owner::Another,
        None => Owner::Unknown,
    }
}

/// Says that this process uses the cgroups below `root`, as long as what it returns lives. Another node agent that uses
/// them would set limits against ours: then it is named, and both go on.
pub fn claim_cgroups(folder: &Path, root: &str) -> Option<File> {
    let path = folder.join(format!("cgroups-{}.lock", root.trim_matches('/').replace('/', "-")));
    match claim(&path) {
        Ok(Claim::Ours(file)) => Some(file),
        Ok(Claim::Theirs { pid }) => {
            tracing::warn!(peer = %pid, path = %path.display(), key = "modules.edged.tailoredKubeletConfig.cgroupRoot",
                "another node agent uses the same cgroups, give one of them another root by its key");
            None
        }
        Err(error) => {
            tracing::debug!(error = %error, path = %path.display(), "not known whether others use the same cgroups");
            None
        }
    }
}

enum Claim {
    Ours(File),
    Theirs { pid: String },
}

#[expect(clippy::disallowed_methods, reason = "runs at the start, before anything waits")]
fn claim(path: &Path) -> std::io::Result<Claim> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        Read::by_ref(&mut file).take(32).read_to_string(&mut pid)?;
        return Ok(Claim::Theirs { pid: pid.trim().to_owned() });
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Claim::Ours(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_node_agent_below_one_cgroup_learns_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/cgroups-.lock");
        let first = claim(&path).unwrap();
        assert!(matches!(&first, Claim::Ours(_)));
        let own = std::process::id().to_string();
        assert!(matches!(claim(&path).unwrap(), Claim::Theirs { pid } if pid == own));
        drop(first);
        assert!(matches!(claim(&path).unwrap(), Claim::Ours(_)), "it ends with its process");
        assert!(claim_cgroups(folder.path(), "/a/b").is_some());
        assert!(folder.path().join("cgroups-a-b.lock").exists());
    }
}
