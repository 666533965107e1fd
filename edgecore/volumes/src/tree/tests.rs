use super::*;
use std::fs;

fn deep(root: &Path, levels: usize) {
    let mode = Mode::from_raw_mode(0o700);
    let mut at = folder_of(item(root).unwrap()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, "d", mode).unwrap();
        // Siblings on both sides: reading goes on after a folder that was entered.
        for name in ["a", "z"] {
            rustix::fs::openat(&at, name, OFlags::CREATE | OFlags::WRONLY, mode).unwrap();
        }
        at = rustix::fs::openat(&at, "d", FOLDER, mode).unwrap();
    }
}

#[test]
fn everything_is_visited_once_at_any_depth_with_few_descriptors() {
    let root = tempfile::tempdir().unwrap();
    let levels = 4 * descent::OPEN;
    deep(root.path(), levels);
    let (mut seen, mut most) = (0, 0);
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    walk(folder_of(item(root.path()).unwrap()).unwrap(), |here, name| {
        seen += 1;
        most = most.max(fs::read_dir("/proc/self/fd").unwrap().count());
        Ok(folder(here, name)?.map_or(Visit::Next, Visit::Enter))
    })
    .unwrap();
    assert_eq!(seen, 3 * levels);
    // Other tests of this process open files as well.
    assert!(most < before + levels, "{before} to {most} descriptors");
    remove(root.path()).unwrap();
    assert!(!root.path().exists());
}

#[test]
fn a_file_and_nothing_are_removed_as_well() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("f");
    fs::write(&file, "").unwrap();
    remove(&file).unwrap();
    remove(&file).unwrap();
    remove(&root.path().join("no/such")).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
