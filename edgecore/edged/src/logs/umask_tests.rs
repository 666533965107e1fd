//! The units run EdgeCore with a umask that keeps files to root. What pods and collectors read has its mode all the same.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::Mode;

use super::links;
use volumes::atomic::{self, File, Files};
use volumes::{host_path, mounts};

/// Set in the process that has a umask of its own: other tests of this one must keep theirs.
const APART: &str = "CAUSEWAY_TEST_UMASK";

#[test]
fn modes_of_what_others_read_do_not_depend_on_the_umask() {
    if std::env::var_os(APART).is_some() {
        return with_a_narrow_umask();
    }
    let own = "logs::umask_tests::modes_of_what_others_read_do_not_depend_on_the_umask";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own, "--nocapture"])
        .env(APART, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 passed"), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn with_a_narrow_umask() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let root = tempfile::tempdir().unwrap();
    let mode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
    let file = File { bytes: b"text".to_vec(), mode: 0o644, owner: None, origin: "a test".to_owned() };
    mounts::make_dir(&root.path().join("volume"), 0o755).unwrap();
    let files = Files::from([("a/b/c".to_owned(), file)]);
    atomic::write(&root.path().join("volume"), &files, None).unwrap();
    assert_eq!(
        ["", "/a", "/a/b", "/a/b/c"].map(|at| mode(&format!("volume{at}"))),
        [0o755, 0o755, 0o755, 0o644]
    );
    host_path::prepare(&root.path().join("made/deep"), "DirectoryOrCreate").unwrap();
    host_path::prepare(&root.path().join("file"), "FileOrCreate").unwrap();
    assert_eq!(["made", "made/deep", "file"].map(mode), [0o755, 0o755, 0o644]);
    mounts::make_dirs(&root.path().join("logs/d_p_u"), 0o755).unwrap();
    assert_eq!(["logs", "logs/d_p_u"].map(mode), [0o755, 0o755]);
    let log = root.path().join("logs/d_p_u/c/0.log");
    let pod = podmodel::spec::PodId { namespace: "d".into(), name: "p".into(), uid: "u".into() };
    links::make(&root.path().join("logs"), &pod, "c", "id", Path::new(&log)).unwrap();
    assert_eq!(mode("containers"), 0o755);
}
