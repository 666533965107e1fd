//! Debian packages that the demo and the tests need, installed where they are missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// (a file of the package, package)
const WANTED: &[(&[&str], &str)] = &[
    (&["/usr/bin/containerd", "/usr/local/bin/containerd"], "containerd"),
    (&["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"], "runc"),
    (&["/usr/lib/cni/bridge"], "containernetworking-plugins"),
    (&["/bin/busybox", "/usr/bin/busybox"], "busybox-static"),
    (&["/usr/sbin/iptables", "/sbin/iptables"], "iptables"),
    (&["/usr/sbin/nft", "/sbin/nft"], "nftables"),
    (&["/usr/sbin/ip", "/sbin/ip", "/bin/ip"], "iproute2"),
    (&["/usr/bin/kubectl", "/usr/local/bin/kubectl"], "kubernetes-client"),
    (&["/usr/bin/cc"], "build-essential"),
    (&["/usr/bin/systemd-analyze"], "systemd"),
];

/// Installs what is missing. Needs root only if something is.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&str> = WANTED
        .iter()
        .filter(|(files, _)| !files.iter().any(|file| Path::new(file).exists()))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs packages. Needs root.
pub(crate) fn install(missing: &[&str]) -> Result<()> {
    println!("Installing {} ...", missing.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!("not root: run apt-get install {} as root first", missing.join(" "));
    }
    apt_get(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(missing);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("running apt-get; this machine is not Debian: install the packages by hand")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
