//! Removes a pod's own cgroup after the runtime has removed those of its containers.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Removes the pod's cgroup from every hierarchy. A cgroup that still has members stays, as the kernel wants.
pub fn remove(parent: &str) {
    for path in paths(Path::new(ROOT), parent) {
        remove_empty(&path);
    }
}

/// Cgroup v2 has one hierarchy at the root, v1 one per controller below it.
fn paths(root: &Path, parent: &str) -> Vec<PathBuf> {
    let below = folder(parent);
    let controllers = fs::read_dir(root).into_iter().flatten().flatten();
    let hierarchies = controllers.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let all = std::iter::once(root.to_owned()).chain(hierarchies.map(|entry| entry.path()));
    all.map(|hierarchy| hierarchy.join(&below)).filter(|path| path.is_dir()).collect()
}

/// The folder of a path or of a slice: `a-b.slice` is `a.slice/a-b.slice`.
fn folder(parent: &str) -> PathBuf {
    let Some(name) = parent.strip_suffix(".slice") else {
        return PathBuf::from(parent.trim_start_matches('/'));
    };
    let mut path = PathBuf::new();
    for (at, _) in name.match_indices('-') {
        path.push(format!("{}.slice", &name[..at]));
    }
    path.join(parent)
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

    #[test]
    fn a_slice_lies_below_the_slices_its_name_names() {
        let path = folder("kubepods-burstable-poda_b.slice");
        assert_eq!(
            path,
            Path::new("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice")
        );
        assert_eq!(folder("/kubepods/podu"), Path::new("kubepods/podu"));
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
}
