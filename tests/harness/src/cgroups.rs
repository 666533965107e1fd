//! The cgroups of one installation, which outlive EdgeCore and its runtime.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait;

/// Where the kernel shows them: one hierarchy, or one for each controller.
const ROOT: &str = "/sys/fs/cgroup";
/// How long processes that were killed may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Removes what is below the cgroup of this name once nothing runs there, when it is dropped. To be dropped after whoever
/// runs containers in it.
pub struct Cgroups(pub String);

/// The folders of the cgroup of this name, in every hierarchy that has it.
pub fn folders(name: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([PathBuf::from(ROOT)]).map(|hierarchy| hierarchy.join(name));
    all.filter(|folder| folder.is_dir()).collect()
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let removed = wait::for_true("the end of the cgroups", PATIENCE, || {
            folders(&self.0).iter().for_each(|folder| remove(folder));
            Ok(folders(&self.0).is_empty())
        });
        if removed.is_err() {
            eprintln!("cgroups called {} are left behind below {ROOT}: something runs there still", self.0);
        }
    }
}

/// Removes the folder and all below it that nothing runs in.
fn remove(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // One that is busy is tried again.
    let _ = std::fs::remove_dir(folder);
}
