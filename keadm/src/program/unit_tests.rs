//! The systemd units: as closed as the work of the programs allows.

use std::process::Command;

use std::path::Path;

use super::{UNITS, has_user_namespaces};

/// The most that `systemd-analyze security` may find exposed (0 to 10), times ten. What is left is explained in the units.
const MOST_EXPOSED: &[(&str, u32)] = &[("cloudcore", 20), ("edgecore", 50)];

/// What gives a unit a mount namespace of its own (systemd.exec(5)).
const MOUNT_NAMESPACE: &[&str] = &[
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateUsers",
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ProcSubset",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "TemporaryFileSystem",
    "BindPaths",
    "RootDirectory",
    "StateDirectory",
    "RuntimeDirectory",
    "LogsDirectory",
    "DynamicUser",
    "MountFlags",
];

fn template(name: &str) -> &'static str {
    UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, text)| *text).unwrap()
}

/// The settings in order; a comment or a section is none.
fn settings(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with(['#', ';', '[']));
    lines.filter(|line| !line.trim().is_empty()).map(|line| line.split_once('=').unwrap()).collect()
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    settings(text).into_iter().rev().find(|(known, _)| *known == key).map(|(_, value)| value)
}

#[test]
fn both_programs_are_watched_keep_files_to_themselves_and_leave_no_core() {
    for (name, text) in UNITS {
        let expected = [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("WatchdogSec", "180"),
            ("Restart", "always"),
            ("UMask", "0077"),
            ("LimitCORE", "0"),
            ("NoNewPrivileges", "yes"),
            ("SystemCallArchitectures", "native"),
        ];
        for (key, wanted) in expected {
            assert_eq!(value(text, key), Some(wanted), "{key} of {name}");
        }
        // Longer than a room may take, or a slow one would be killed before it is called stuck.
        let wait: u64 = value(text, "WatchdogSec").unwrap().parse().unwrap();
        assert!(wait > daemon::health::STUCK_AFTER.as_secs());
    }
}

#[test]
fn what_edgecore_mounts_is_seen_by_the_container_runtime() {
    let text = template("edgecore");
    let own: Vec<_> = settings(text).into_iter().filter(|(key, _)| MOUNT_NAMESPACE.contains(key)).collect();
    assert!(own.is_empty(), "these give EdgeCore a mount namespace of its own: {own:?}");
    assert_eq!(value(text, "KillMode"), Some("process"), "containers must outlive EdgeCore");
    let score: i32 = value(text, "OOMScoreAdjust").unwrap().parse().unwrap();
    assert!(
        (-900..0).contains(&score),
        "EdgeCore goes before its pods only when it holds much of the memory"
    );
}

/// Needs `systemd-analyze` of the Debian package systemd (252 or later); systemd need not run. `cargo xtask test`
/// installs it.
#[test]
fn no_unit_is_more_exposed_than_its_work_needs() {
    let folder = tempfile::tempdir().unwrap();
    for (name, most) in MOST_EXPOSED {
        let path = folder.path().join(format!("{name}.service"));
        std::fs::write(&path, template(name)).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")])
            .arg(&path)
            .output()
            .expect("systemd-analyze runs (apt-get install systemd)");
        let told = String::from_utf8_lossy(&output.stdout);
        let exposed: Vec<&str> = told.lines().filter(|line| line.starts_with(['✗', '→'])).collect();
        assert!(
            output.status.success(),
            "{}\n{}",
            exposed.join("\n"),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn where_user_namespaces_are_forbidden_no_unit_asks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let proc = folder.path();
    for missing in ["self/ns", "sys/user"] {
        std::fs::create_dir_all(proc.join(missing)).unwrap();
    }
    assert!(!has_user_namespaces(proc), "a kernel without them");
    std::fs::write(proc.join("self/ns/user"), "").unwrap();
    for (most, allowed) in [("0\n", false), ("96364\n", true)] {
        std::fs::write(proc.join("sys/user/max_user_namespaces"), most).unwrap();
        assert_eq!(has_user_namespaces(proc), allowed);
    }
    for (name, text) in UNITS {
        let binary = Path::new("/opt/causeway").join(name);
        let with = super::unit(name, &binary, true);
        assert!(with.contains(&format!("ExecStart=/opt/causeway/{name}\n")));
        assert_eq!(value(&with, "PrivateUsers"), value(text, "PrivateUsers"));
        let without = super::unit(name, &binary, false);
        assert_eq!(value(&without, "PrivateUsers"), None);
        assert_eq!(settings(&without).len() + usize::from(*name == "cloudcore"), settings(&with).len());
    }
}
