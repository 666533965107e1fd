//! What the machine has, read from the host.

use super::Settings;
use crate::host::{Host, facts};
use podmodel::machine::Machine;

pub fn read(host: &dyn Host, settings: &Settings) -> Machine {
    Machine {
        cpu_milli: i64::from(host.cpus()) * 1000,
        memory: facts::memory_bytes(host),
        disk: host.disk(&settings.root_dir).map_or(0, |disk| i64::try_from(disk.bytes).unwrap_or(i64::MAX)),
        huge_pages: facts::huge_pages(host),
        has_apparmor: facts::has_apparmor(host),
        has_cgroup2: facts::has_cgroup2(host),
    }
}
