//! Links by which log collectors find the logs of containers (docs/protocol/edge-runtime.md 5.21):
//! `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`, beside the folder of the pods' logs.

#![expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use podmodel::spec::PodId;
use volumes::mounts;

/// File names end here on common file systems.
const LONGEST: usize = 255;
const ENDING: &str = ".log";

fn folder(pod_logs_dir: &Path) -> PathBuf {
    pod_logs_dir.with_file_name("containers")
}

/// Makes the link of one container, if it is not there. Blocks on the disk.
pub(crate) fn make(
    pod_logs_dir: &Path,
    pod: &PodId,
    container: &str,
    id: &str,
    log: &Path,
) -> io::Result<()> {
    let folder = folder(pod_logs_dir);
    let mut name = format!("{}_{}_{container}-{id}", pod.name, pod.namespace);
    name.truncate(name.floor_char_boundary(LONGEST - ENDING.len()));
    let link = folder.join(name + ENDING);
    if std::fs::read_link(&link).is_ok_and(|target| target == log) {
        return Ok(());
    }
    // Collectors need not be root.
    mounts::make_dirs(&folder, 0o755)?;
    match std::fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(log, &link),
    }
}

/// Links into the pods' logs that lead nowhere. A log that is being rotated is not there for a moment either.
pub(crate) fn dead(pod_logs_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(pod_logs_dir)).into_iter().flatten().flatten();
    let is_dead = |link: &PathBuf| {
        std::fs::read_link(link).is_ok_and(|target| target.starts_with(pod_logs_dir) && !target.exists())
    };
    entries.map(|entry| entry.path()).filter(is_dead).collect()
}

/// Removes dead links whose container the runtime no longer has.
pub(crate) fn remove(dead: &[PathBuf], containers: &BTreeSet<String>) -> io::Result<()> {
    let names = |link: &PathBuf| link.file_stem().map(|name| name.to_string_lossy().into_owned());
    let is_known = |name: &str| {
        // A name that was too long has only the beginning of its id, if that.
        let is_cut = name.len() >= LONGEST - ENDING.len();
        let id = name.rsplit('-').next().unwrap_or_default();
        containers.contains(id) || (is_cut && containers.iter().any(|known| known.starts_with(id)))
    };
    let mut gone = dead.iter().filter(|link| !names(link).is_some_and(|name| is_known(&name)));
    gone.try_for_each(|link| match std::fs::remove_file(link) {
        // Another pod's end removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_log_and_go_when_log_and_container_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let pods = root.path().join("pods");
        let log = |attempt: u32| pods.join(format!("d_p_u/c/{attempt}.log"));
        std::fs::create_dir_all(pods.join("d_p_u/c")).unwrap();
        let pod = PodId { namespace: "d".into(), name: "p".into(), uid: "u".into() };
        for attempt in 0..3 {
            std::fs::write(log(attempt), "words").unwrap();
            for _again in 0..2 {
                make(&pods, &pod, "c", &format!("id{attempt}"), &log(attempt)).unwrap();
            }
        }
        let link = |attempt: u32| root.path().join(format!("containers/p_d_c-id{attempt}.log"));
        assert_eq!(std::fs::read_to_string(link(1)).unwrap(), "words");
        std::os::unix::fs::symlink("/nowhere", root.path().join("containers/other.log")).unwrap();
        std::fs::remove_file(log(0)).unwrap();
        std::fs::remove_file(log(1)).unwrap();
        let mut found = dead(&pods);
        found.sort();
        assert_eq!(found, [link(0), link(1)]);
        // Two pods that end at once find the same links.
        for _each in 0..2 {
            remove(&found, &BTreeSet::from(["id1".to_owned()])).unwrap();
        }
        assert_eq!(dead(&pods), [link(1)]);
        let long = "n".repeat(240);
        make(&pods, &pod, &long, "0123456789", &log(2)).unwrap();
        std::fs::remove_file(log(2)).unwrap();
        let cut = dead(&pods).into_iter().find(|link| link.to_string_lossy().contains("nnn")).unwrap();
        remove(std::slice::from_ref(&cut), &BTreeSet::from(["0123456789".to_owned()])).unwrap();
        assert!(cut.is_symlink(), "a link whose name was too long is its container's");
        remove(std::slice::from_ref(&cut), &BTreeSet::from(["9876543210".to_owned()])).unwrap();
        assert!(!cut.is_symlink());
    }
}
