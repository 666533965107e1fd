//! Facts of the node, from the texts of its host.

use super::Host;

/// Bytes of memory, from /proc/meminfo; zero if it cannot be read.
pub fn memory_bytes(host: &dyn Host) -> i64 {
    meminfo(host, "MemTotal:")
}

/// Bytes of memory that can be had without swapping.
pub fn memory_available(host: &dyn Host) -> i64 {
    meminfo(host, "MemAvailable:")
}

/// Bytes of memory nobody uses for anything.
pub fn memory_free(host: &dyn Host) -> i64 {
    meminfo(host, "MemFree:")
}

fn meminfo(host: &dyn Host, key: &str) -> i64 {
    let text = host.text("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processes the kernel allows, and those there are.
pub fn processes(host: &dyn Host) -> (u64, u64) {
    let number = |path: &str| host.text(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let limits = [number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max")];
    let limit = limits.into_iter().flatten().min().unwrap_or(0);
    let load = host.text("/proc/loadavg").unwrap_or_default();
    let running = load.split(' ').nth(3).and_then(|field| field.split('/').nth(1)?.parse().ok());
    (limit, running.unwrap_or(0))
}

/// Huge pages by resource name (`hugepages-2Mi`) in bytes.
pub fn huge_pages(host: &dyn Host) -> Vec<(String, i64)> {
    let folder = "/sys/kernel/mm/hugepages";
    let names = host.names(folder).unwrap_or_default();
    let mut pages: Vec<(String, i64)> = names
        .iter()
        .filter_map(|name| {
            let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: i64 = host.text(&format!("{folder}/{name}/nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((format!("hugepages-{}", page_size(kib)), kib * 1024 * count))
        })
        .collect();
    pages.sort();
    pages
}

fn page_size(kib: i64) -> String {
    match kib {
        size if size % (1024 * 1024) == 0 => format!("{}Gi", size / (1024 * 1024)),
        size if size % 1024 == 0 => format!("{}Mi", size / 1024),
        size => format!("{size}Ki"),
    }
}

/// True if the kernel confines programs by AppArmor profiles.
pub fn has_apparmor(host: &dyn Host) -> bool {
    host.text("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y")
}

/// True if all controllers are in one hierarchy: only its root has this file.
pub fn has_cgroup2(host: &dyn Host) -> bool {
    host.text("/sys/fs/cgroup/cgroup.controllers").is_ok()
}

/// Who this machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
}

pub fn identity(host: &dyn Host) -> Identity {
    let trimmed =
        |path: &str| host.text(path).map(|text| text.trim().to_owned()).ok().filter(|t| !t.is_empty());
    let machine_id =
        trimmed("/etc/machine-id").or_else(|| trimmed("/var/lib/dbus/machine-id")).unwrap_or_default();
    Identity {
        system_uuid: trimmed("/sys/class/dmi/id/product_uuid").unwrap_or_else(|| machine_id.clone()),
        machine_id,
        boot_id: trimmed("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        kernel: host.kernel_release(),
        os_image: os_image(&host.text("/etc/os-release").unwrap_or_default()),
    }
}

fn os_image(release: &str) -> String {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("Linux".to_owned(), |text| text.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Recorded;
    use super::*;

    #[test]
    fn facts_are_read_from_recorded_texts() {
        let host = Recorded { release: "6.1".into(), ..Recorded::default() }
            .with("/proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    500 kB\n")
            .with("/proc/sys/kernel/pid_max", "4194304\n")
            .with("/proc/sys/kernel/threads-max", "1000\n")
            .with("/proc/loadavg", "0.1 0.2 0.3 2/345 999\n")
            .with("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "3\n")
            .with("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n")
            .with("/etc/machine-id", "abc\n")
            .with("/proc/sys/kernel/random/boot_id", "b-1\n")
            .with("/etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian 12\"\n");
        assert_eq!((memory_bytes(&host), memory_available(&host)), (1_024_000, 512_000));
        assert_eq!(processes(&host), (1000, 345));
        let pages = [("hugepages-1Gi".to_owned(), 0), ("hugepages-2Mi".to_owned(), 6 << 20)];
        assert_eq!(huge_pages(&host), pages);
        let identity = identity(&host);
        assert_eq!((identity.machine_id.as_str(), identity.system_uuid.as_str()), ("abc", "abc"));
        assert_eq!((identity.boot_id.as_str(), identity.os_image.as_str()), ("b-1", "Debian 12"));
    }

    #[test]
    fn a_host_that_tells_nothing_has_no_facts_and_no_panic() {
        let host = Recorded::default();
        assert_eq!((memory_bytes(&host), processes(&host)), (0, (0, 0)));
        assert_eq!(identity(&host).os_image, "Linux");
    }
}
