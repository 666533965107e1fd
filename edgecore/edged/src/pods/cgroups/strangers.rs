//! Pods of another node agent (a kubelet, KubeEdge's EdgeCore) in the cgroups that are ours.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::tree;
use podmodel::cgroups::CgroupDriver;
use podmodel::resources::{self, Qos};

/// Uids of pods with a process below the cgroup `root`, as the name of a cgroup has them: with the systemd driver `_` is
/// written for `-`. Blocks.
pub fn running(driver: CgroupDriver, root: &str) -> BTreeSet<String> {
    below(Path::new(tree::ROOT), driver, root)
}

fn below(tree: &Path, driver: CgroupDriver, root: &str) -> BTreeSet<String> {
    let classes = [None, Some(Qos::Burstable), Some(Qos::BestEffort)];
    let classes = classes.map(|class| resources::class_parent(driver, root, class));
    let paths: Vec<PathBuf> = classes.iter().flat_map(|class| tree::paths(tree, class)).collect();
    let pods = paths.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten());
    let live = pods.filter_map(|entry| {
        let uid = uid(entry.file_name().to_str()?)?.to_owned();
        tree::has_members(&entry.path()).then_some(uid)
    });
    live.collect()
}

/// `pod<uid>`, or `...-pod<uid>.slice`.
fn uid(name: &str) -> Option<&str> {
    match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").map(|(_, uid)| uid),
        None => name.strip_prefix("pod"),
    }
    .filter(|uid| !uid.is_empty() && *uid != "s")
}

/// Those of `running` that none of `known` is.
pub fn among(running: BTreeSet<String>, known: &BTreeSet<String>) -> Vec<String> {
    let known: BTreeSet<String> = known.iter().map(|uid| uid.replace('-', "_")).collect();
    running.into_iter().filter(|uid| !known.contains(&uid.replace('-', "_"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pod(tree: &Path, path: &str, members: &str) {
        fs::create_dir_all(tree.join(path)).unwrap();
        fs::write(tree.join(path).join("cgroup.procs"), members).unwrap();
    }

    #[test]
    fn pods_that_run_below_the_root_are_found_in_every_form_of_the_tree() {
        let tree = tempfile::tempdir().unwrap();
        // v1: one hierarchy a controller.
        pod(tree.path(), "memory/a/kubepods/burstable/podu-1/c", "12\n");
        pod(tree.path(), "cpu/a/kubepods/podu-2", "13\n");
        pod(tree.path(), "cpu/a/kubepods/pod-empty", "");
        pod(tree.path(), "cpu/kubepods/podelsewhere", "14\n");
        let found = below(tree.path(), CgroupDriver::Cgroupfs, "/a");
        assert_eq!(found, BTreeSet::from(["u-1", "u-2"].map(str::to_owned)));
        // v2 with systemd: one hierarchy of slices.
        let tree = tempfile::tempdir().unwrap();
        let slice = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podu_3.slice/cri-x.scope";
        pod(tree.path(), slice, "15\n");
        let found = below(tree.path(), CgroupDriver::Systemd, "");
        assert_eq!(found, BTreeSet::from(["u_3".to_owned()]));
        let known = |uid: &str| BTreeSet::from([uid.to_owned()]);
        assert!(among(found.clone(), &known("u-3")).is_empty());
        assert_eq!(among(found, &known("u-4")), ["u_3"]);
    }
}
