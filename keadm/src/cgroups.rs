//! Cgroups that pods of an installation left: a runtime removes its containers', not those that EdgeCore made for pods.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Removes the cgroups of these pods from every hierarchy below `root` (`/sys/fs/cgroup`), and those of all pods
/// together once no pod is left in them. Gives how many pods had one.
pub(crate) fn remove(root: &Path, cgroup_root: &str, uids: &BTreeSet<String>) -> usize {
    let mut removed = BTreeSet::new();
    for hierarchy in hierarchies(root) {
        for top in tops(cgroup_root).iter().map(|top| hierarchy.join(top)).filter(|top| top.is_dir()) {
            remove_pods(&top, uids, &mut removed);
            if !has_pods(&top) {
                remove_empty(&top);
                // The installation's own, as far as nobody else is in them.
                for above in top.ancestors().skip(1).take_while(|above| **above != hierarchy) {
                    let _ = std::fs::remove_dir(above);
                }
            }
        }
    }
    removed.len()
}

/// Cgroup v2 has one hierarchy at the root, v1 one per controller below it.
fn hierarchies(root: &Path) -> Vec<PathBuf> {
    std::iter::once(root.to_owned()).chain(folders(root)).collect()
}

/// Where EdgeCore has the cgroups of all pods below the one that the configuration names: by path, or with the systemd
/// driver as a slice, which lies below the slices its name names (`a-b.slice` in `a.slice`).
fn tops(cgroup_root: &str) -> [PathBuf; 2] {
    let root = cgroup_root.trim_matches('/');
    let parts = root.split('/').filter(|part| !part.is_empty());
    let slice: String = parts.map(|part| format!("{part}-")).chain(["kubepods".to_owned()]).collect();
    let above = slice.match_indices('-').map(|(at, _)| format!("{}.slice", &slice[..at]));
    let nested: PathBuf = above.chain([format!("{slice}.slice")]).collect();
    [Path::new(root).join("kubepods"), nested]
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The uid of the pod whose cgroup this is: `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for `-`.
fn uid(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    if let Some(uid) = name.strip_prefix("pod") {
        return Some(uid.to_owned());
    }
    let (_, uid) = name.strip_suffix(".slice")?.rsplit_once("-pod")?;
    Some(uid.replace('_', "-"))
}

fn remove_pods(path: &Path, uids: &BTreeSet<String>, removed: &mut BTreeSet<String>) {
    for inner in folders(path) {
        match uid(&inner) {
            Some(uid) if uids.contains(&uid) => {
                remove_empty(&inner);
                removed.insert(uid);
            }
            Some(_) => {}
            None => remove_pods(&inner, uids, removed),
        }
    }
}

fn has_pods(path: &Path) -> bool {
    folders(path).iter().any(|inner| uid(inner).is_some() || has_pods(inner))
}

/// Folders of cgroups go one by one, deepest first; the kernel keeps those with processes.
fn remove_empty(path: &Path) {
    folders(path).iter().for_each(|inner| remove_empty(inner));
    let _ = std::fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, paths: &[&str]) {
        paths.iter().for_each(|path| std::fs::create_dir_all(root.join(path)).unwrap());
    }

    #[test]
    fn cgroups_of_the_installations_pods_go_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        make(
            root,
            &[
                "memory/kubepods/burstable/poda-1/inner",
                "memory/kubepods/podb-2",
                "cpu/kubepods/burstable/poda-1",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_1.slice",
            ],
        );
        let uids = BTreeSet::from(["a-1".to_owned()]);
        assert_eq!(remove(root, "", &uids), 1);
        assert!(root.join("memory/kubepods/podb-2").exists());
        for gone in ["memory/kubepods/burstable/poda-1", "cpu/kubepods", "kubepods.slice"] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn slices_of_a_root_of_its_own_are_found_where_systemd_has_them() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let pods = "site.slice/site-1.slice/site-1-a.slice/site-1-a-kubepods.slice";
        let class = format!("{pods}/site-1-a-kubepods-burstable.slice");
        let pod = format!("{class}/site-1-a-kubepods-burstable-pod5_1.slice");
        make(root, &[&format!("{pod}/cri-containerd-x.scope"), "site.slice/other.service"]);
        std::fs::write(root.join("cgroup.controllers"), "cpu memory").unwrap();
        assert_eq!(remove(root, "/site-1/a", &BTreeSet::from(["5-1".to_owned()])), 1);
        assert!(!root.join("site.slice/site-1.slice").exists());
        assert!(root.join("site.slice/other.service").exists());
    }

    #[test]
    fn the_one_hierarchy_of_the_newer_version_is_cleaned_as_well() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        make(root, &["kubepods/burstable/podp-1/c", "kubepods/podp-2", "system.slice"]);
        let uids = BTreeSet::from(["p-1".to_owned(), "p-2".to_owned()]);
        assert_eq!(remove(root, "", &uids), 2);
        assert!(!root.join("kubepods").exists() && root.join("system.slice").exists());
    }

    #[test]
    fn a_cgroup_root_of_its_own_goes_with_its_last_pod() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        make(root, &["memory/site-1/kubepods/besteffort/poda-1", "memory/kubepods/poda-1"]);
        assert_eq!(remove(root, "/site-1", &BTreeSet::from(["a-1".to_owned()])), 1);
        assert!(!root.join("memory/site-1").exists() && root.join("memory/kubepods/poda-1").exists());
    }
}
