//! The cgroup file systems: one folder per cgroup, in each hierarchy.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{CgroupError, Limits};
use podmodel::cgroups::folder;
use volumes::mounts;

pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// Hierarchies of v1 whose files are written here. In the others the runtime makes what it needs.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Controllers of v2 that pods are limited by.
const ENABLED: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Cgroups can be read by all, whatever the umask is.
const MODE: u32 = 0o755;

pub(super) struct Tree {
    root: PathBuf,
    is_v2: bool,
}

impl Tree {
    pub(super) fn new(is_v2: bool) -> Tree {
        Tree { root: PathBuf::from(ROOT), is_v2 }
    }

    /// Makes the cgroup and sets its limits. Limits that it has already are left alone.
    pub(super) fn make(&self, parent: &str, limits: &Limits) -> Result<(), CgroupError> {
        let below = folder(parent);
        if self.is_v2 {
            self.make_v2(&below)?;
            let path = self.root.join(&below);
            return limits.files_v2().into_iter().try_for_each(|(file, value)| set(&path.join(file), &value));
        }
        for controller in CONTROLLERS {
            let hierarchy = self.root.join(controller);
            if hierarchy.is_dir() {
                let path = hierarchy.join(&below);
                mounts::make_dirs(&path, MODE).map_err(|source| CgroupError::Make { path, source })?;
            }
        }
        let files = limits
            .files_v1()
            .into_iter()
            .map(|(controller, file, value)| (self.root.join(controller).join(&below).join(file), value));
        files.into_iter().filter(|(path, _)| path.exists()).try_for_each(|(path, value)| set(&path, &value))
    }

    /// A cgroup of v2 has the controllers its parent hands down.
    fn make_v2(&self, below: &Path) -> Result<(), CgroupError> {
        let mut path = self.root.clone();
        for part in below.components() {
            hand_down(&path);
            path.push(part);
            if let Err(source) = mounts::make_dir(&path, MODE) {
                return Err(CgroupError::Make { path, source });
            }
        }
        // The runtime's containers come below it.
        hand_down(&path);
        Ok(())
    }
}

/// One by one: a controller the kernel does not have must not keep the others away.
fn hand_down(path: &Path) {
    let control = path.join("cgroup.subtree_control");
    let has = fs::read_to_string(&control).unwrap_or_default();
    for controller in ENABLED.iter().filter(|name| !has.split_whitespace().any(|known| known == **name)) {
        let _ = fs::write(&control, format!("+{controller}"));
    }
}

fn set(path: &Path, value: &str) -> Result<(), CgroupError> {
    if fs::read_to_string(path).is_ok_and(|known| known.trim() == value) {
        return Ok(());
    }
    let failed = |source| CgroupError::Set { path: path.to_owned(), value: value.to_owned(), source };
    fs::write(path, value).map_err(failed)
}

/// Kills every process of the cgroup, in whichever hierarchy it is found.
pub(super) fn kill(parent: &str) -> usize {
    let mut members = BTreeSet::new();
    for path in paths(Path::new(ROOT), parent) {
        collect(&path, &mut members);
    }
    for pid in members.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
        // One that is gone by now is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    members.len()
}

/// Whether there is a process in the cgroup or below it.
pub(super) fn has_members(path: &Path) -> bool {
    let mut members = BTreeSet::new();
    collect(path, &mut members);
    !members.is_empty()
}

fn collect(path: &Path, members: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    members.extend(text.lines().filter_map(|line| line.trim().parse::<i32>().ok()));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), members);
        }
    }
}

/// Removes the cgroup from every hierarchy.
pub(super) fn remove(parent: &str) {
    for path in paths(Path::new(ROOT), parent) {
        remove_empty(&path);
    }
}

/// Cgroup v2 has one hierarchy at the root, v1 one per controller below it.
pub(super) fn paths(root: &Path, parent: &str) -> Vec<PathBuf> {
    let below = folder(parent);
    let controllers = fs::read_dir(root).into_iter().flatten().flatten();
    let hierarchies = controllers.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let all = std::iter::once(root.to_owned()).chain(hierarchies.map(|entry| entry.path()));
    all.map(|hierarchy| hierarchy.join(&below)).filter(|path| path.is_dir()).collect()
}

/// Folders of cgroups go one by one, deepest first.
fn remove_empty(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { cpu_shares: Some(1024), memory: Some(1 << 20), ..Limits::default() }
    }

    #[test]
    fn the_cgroup_is_found_in_every_hierarchy_and_removed_with_what_is_below() {
        let root = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpu"] {
            fs::create_dir_all(root.path().join(controller).join("kubepods/podu/left")).unwrap();
        }
        let found = paths(root.path(), "/kubepods/podu");
        assert_eq!(found.len(), 2);
        found.iter().for_each(|path| remove_empty(path));
        assert!(paths(root.path(), "/kubepods/podu").is_empty());
        assert!(root.path().join("memory/kubepods").is_dir());
    }

    #[test]
    fn the_one_hierarchy_hands_its_controllers_down_to_the_pod() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree { root: root.path().to_owned(), is_v2: true };
        tree.make("/kubepods/burstable/podu", &limits()).unwrap();
        let text = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(text("kubepods/burstable/podu/cpu.weight"), "39");
        assert_eq!(text("kubepods/burstable/podu/memory.max"), "1048576");
        for path in ["", "kubepods", "kubepods/burstable", "kubepods/burstable/podu"] {
            assert_eq!(text(format!("{path}/cgroup.subtree_control").trim_start_matches('/')), "+pids");
        }
    }

    #[test]
    fn each_controller_of_the_old_version_has_its_own_folder_and_files() {
        let root = tempfile::tempdir().unwrap();
        for (controller, file) in [("cpu", "cpu.shares"), ("memory", "memory.limit_in_bytes")] {
            let path = root.path().join(controller).join("kubepods/podu");
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(file), "0").unwrap();
        }
        let tree = Tree { root: root.path().to_owned(), is_v2: false };
        tree.make("/kubepods/podu", &limits()).unwrap();
        let text = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(text("cpu/kubepods/podu/cpu.shares"), "1024");
        assert_eq!(text("memory/kubepods/podu/memory.limit_in_bytes"), "1048576");
    }
}
