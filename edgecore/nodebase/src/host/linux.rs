//! The real host.

#![expect(clippy::disallowed_methods, reason = "/proc and /sys answer from memory")]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use super::interfaces::InterfaceAddress;
use super::{Disk, Host};

/// Linux as this process sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Host for Linux {
    fn text(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(path)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn disk(&self, path: &Path) -> io::Result<Disk> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Disk {
            bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
            read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    fn cpus(&self) -> u32 {
        std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
    }

    fn kernel_release(&self) -> String {
        rustix::system::uname().release().to_string_lossy().into_owned()
    }

    /// Connecting a datagram socket sends nothing; it only chooses the route. The targets are documentation addresses.
    fn routed_addresses(&self) -> Vec<IpAddr> {
        let route = |from: &str, to: &str| {
            let socket = UdpSocket::bind(from).ok()?;
            socket.connect(to).ok()?;
            socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
        };
        let routes = [route("0.0.0.0:0", "192.0.2.1:9"), route("[::]:0", "[2001:db8::1]:9")];
        routes.into_iter().flatten().collect()
    }

    fn addresses(&self) -> Vec<InterfaceAddress> {
        let all = if_addrs::get_if_addrs().unwrap_or_default();
        let up = all.into_iter().filter(if_addrs::Interface::is_oper_up);
        up.map(|found| InterfaceAddress { ip: found.ip(), interface: found.name }).collect()
    }
}
