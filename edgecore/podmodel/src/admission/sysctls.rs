//! Which sysctls a pod may set: those that stay inside its namespaces and hurt no neighbour, and what an administrator
//! allows besides.

use k8s_openapi::api::core::v1::PodSpec;

const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What the pod asks for and may not have, as a text.
pub(super) fn forbidden(spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let wanted = spec.security_context.as_ref().and_then(|context| context.sysctls.as_ref());
    wanted.into_iter().flatten().find_map(|sysctl| {
        // Both separators are in use; only one is compared.
        let name = sysctl.name.replace('/', ".");
        let listed = SAFE.contains(&name.as_str()) || allowed.iter().any(|pattern| covers(pattern, &name));
        if !listed {
            return Some(format!("forbidden sysctl: {:?} not allowlisted", sysctl.name));
        }
        let host_network = spec.host_network == Some(true) && name.starts_with("net.");
        let host_ipc = spec.host_ipc == Some(true)
            && ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."]
                .iter()
                .any(|part| name.starts_with(part));
        let which = if host_network { "hostNet" } else { "hostIPC" };
        (host_network || host_ipc)
            .then(|| format!("forbidden sysctl: {:?} not allowed with {which} enabled", sysctl.name))
    })
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}
