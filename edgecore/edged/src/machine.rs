//! What the machine has.

use super::Settings;
use crate::host::{Host, facts};

/// What the machine has.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system that holds the pods.
    pub disk: i64,
    /// Bytes by resource name.
    pub huge_pages: Vec<(String, i64)>,
    pub has_apparmor: bool,
    /// One hierarchy of cgroups for all controllers.
    pub has_cgroup2: bool,
}

impl Machine {
    pub fn read(host: &dyn Host, settings: &Settings) -> Machine {
        Machine {
            cpu_milli: i64::from(host.cpus()) * 1000,
            memory: facts::memory_bytes(host),
            disk: host
                .disk(&settings.root_dir)
                .map_or(0, |disk| i64::try_from(disk.bytes).unwrap_or(i64::MAX)),
            huge_pages: facts::huge_pages(host),
            has_apparmor: facts::has_apparmor(host),
            has_cgroup2: facts::has_cgroup2(host),
        }
    }
}
