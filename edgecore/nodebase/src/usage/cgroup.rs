//! CPU, memory and processes of a cgroup, version 1 or 2, from the host's files. Pure but for the reading.

use crate::host::{Host, facts};

const ROOT: &str = "/sys/fs/cgroup";
/// Limits beyond this are none: version 1 writes the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;
/// Cgroups of containers lie one or two levels below that of their pod.
const DEPTH: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// What a cgroup's memory controller says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReading {
    pub usage: u64,
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub limit: Option<u64>,
}

pub struct Cgroups<'a> {
    host: &'a dyn Host,
    version: Version,
}

impl Cgroups<'_> {
    /// A machine whose controllers are at version 2 has them listed at the root; a hybrid one has not.
    pub fn of(host: &dyn Host) -> Cgroups<'_> {
        let listed = host.text(&format!("{ROOT}/cgroup.controllers"));
        let version = match listed.is_ok_and(|text| !text.trim().is_empty()) {
            true => Version::Two,
            false => Version::One,
        };
        Cgroups { host, version }
    }

    /// `path` is below the root, without a slash at its front; empty for the root.
    fn file(&self, controller: &str, path: &str, name: &str) -> String {
        let mut full = ROOT.to_owned();
        let controller = Some(controller).filter(|_| self.version == Version::One);
        for part in controller.into_iter().chain([path, name]).filter(|part| !part.is_empty()) {
            full.push('/');
            full.push_str(part);
        }
        full
    }

    fn number(&self, controller: &str, path: &str, name: &str) -> Option<u64> {
        self.host.text(&self.file(controller, path, name)).ok()?.trim().parse().ok()
    }

    /// Nanoseconds of CPU since the cgroup was made.
    pub fn cpu_nanos(&self, path: &str) -> Option<u64> {
        match self.version {
            Version::One => self.number("cpuacct", path, "cpuacct.usage"),
            Version::Two => {
                let text = self.host.text(&self.file("", path, "cpu.stat")).ok()?;
                field(&text, "usage_usec")?.checked_mul(1000)
            }
        }
    }

    pub fn memory(&self, path: &str) -> Option<MemoryReading> {
        let stat = self.host.text(&self.file("memory", path, "memory.stat")).ok()?;
        let get = |one: &str, two: &str| {
            field(&stat, if self.version == Version::One { one } else { two }).unwrap_or(0)
        };
        let (current, limit) = match self.version {
            Version::One => ("memory.usage_in_bytes", "memory.limit_in_bytes"),
            Version::Two => ("memory.current", "memory.max"),
        };
        let usage = self.number("memory", path, current).or_else(|| self.whole_machine(path))?;
        Some(MemoryReading {
            usage,
            working_set: usage.saturating_sub(get("total_inactive_file", "inactive_file")),
            rss: get("total_rss", "anon"),
            page_faults: get("total_pgfault", "pgfault"),
            major_page_faults: get("total_pgmajfault", "pgmajfault"),
            limit: self.number("memory", path, limit).filter(|limit| *limit < NO_LIMIT),
        })
    }

    /// Version 2 has no such number at its root.
    fn whole_machine(&self, path: &str) -> Option<u64> {
        let used = facts::memory_bytes(self.host) - facts::memory_free(self.host);
        u64::try_from(used).ok().filter(|_| path.is_empty())
    }

    pub fn processes(&self, path: &str) -> Option<u64> {
        self.number("pids", path, "pids.current")
    }

    /// Some process of the cgroup or of one below it.
    pub fn member(&self, path: &str) -> Option<u32> {
        self.member_within(path, DEPTH)
    }

    fn member_within(&self, path: &str, depth: usize) -> Option<u32> {
        let members = self.host.text(&self.file("memory", path, "cgroup.procs")).ok()?;
        if let Some(pid) = members.lines().next().and_then(|line| line.trim().parse().ok()) {
            return Some(pid);
        }
        let depth = depth.checked_sub(1)?;
        let below = self.host.names(&self.file("memory", path, "")).ok()?;
        let folders = below.iter().filter(|name| !name.contains('.') || is_unit(name));
        folders.into_iter().find_map(|name| self.member_within(&format!("{path}/{name}"), depth))
    }
}

/// Files of a cgroup have a dot in their names, as systemd's units have.
fn is_unit(name: &str) -> bool {
    name.ends_with(".scope") || name.ends_with(".slice") || name.ends_with(".service")
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Recorded;

    const POD: &str = "kubepods/burstable/podu";

    fn one() -> Recorded {
        let at = |controller: &str, name: &str| format!("/sys/fs/cgroup/{controller}/{POD}/{name}");
        Recorded::default()
            .with(&at("cpuacct", "cpuacct.usage"), "1234567890\n")
            .with(&at("memory", "memory.usage_in_bytes"), "10000\n")
            .with(&at("memory", "memory.limit_in_bytes"), "9223372036854771712\n")
            .with(
                &at("memory", "memory.stat"),
                "inactive_file 1\ntotal_rss 700\ntotal_pgfault 5\ntotal_pgmajfault 2\ntotal_inactive_file 4000\n",
            )
            .with(&at("memory", "cgroup.procs"), "")
            .with(&at("memory", "abc/cgroup.procs"), "42\n43\n")
            .with(&at("pids", "pids.current"), "3\n")
    }

    fn two() -> Recorded {
        let at = |name: &str| format!("/sys/fs/cgroup/{POD}/{name}");
        Recorded::default()
            .with("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
            .with("/sys/fs/cgroup/memory.stat", "anon 9\ninactive_file 1024\n")
            .with("/sys/fs/cgroup/cpu.stat", "usage_usec 5\n")
            .with("/proc/meminfo", "MemTotal: 8 kB\nMemFree: 2 kB\n")
            .with(&at("cpu.stat"), "usage_usec 1234567\nuser_usec 1\n")
            .with(&at("memory.current"), "10000\n")
            .with(&at("memory.max"), "20000\n")
            .with(&at("memory.stat"), "anon 700\ninactive_file 4000\npgfault 5\npgmajfault 2\n")
            .with(&at("cgroup.procs"), "")
            .with(&at("cri-abc.scope/cgroup.procs"), "42\n")
            .with(&at("pids.current"), "3\n")
    }

    #[test]
    fn both_versions_are_read() {
        let reading = MemoryReading {
            usage: 10_000,
            working_set: 6_000,
            rss: 700,
            page_faults: 5,
            major_page_faults: 2,
            limit: None,
        };
        let host = one();
        let cgroups = Cgroups::of(&host);
        assert_eq!(cgroups.version, Version::One);
        assert_eq!(cgroups.cpu_nanos(POD), Some(1_234_567_890));
        assert_eq!(cgroups.memory(POD), Some(reading));
        assert_eq!((cgroups.processes(POD), cgroups.member(POD)), (Some(3), Some(42)));
        let host = two();
        let cgroups = Cgroups::of(&host);
        assert_eq!(cgroups.version, Version::Two);
        assert_eq!(cgroups.cpu_nanos(POD), Some(1_234_567_000));
        assert_eq!(cgroups.memory(POD), Some(MemoryReading { limit: Some(20_000), ..reading }));
        assert_eq!((cgroups.processes(POD), cgroups.member(POD)), (Some(3), Some(42)));
    }

    #[test]
    fn the_root_of_version_2_is_the_whole_machine() {
        let host = two();
        let memory = Cgroups::of(&host).memory("").unwrap();
        assert_eq!((memory.usage, memory.working_set, memory.rss), (6144, 5120, 9));
        assert_eq!(Cgroups::of(&host).cpu_nanos(""), Some(5_000));
        assert_eq!(Cgroups::of(&host).memory("gone"), None);
        assert_eq!(Cgroups::of(&host).member("gone"), None);
    }
}
