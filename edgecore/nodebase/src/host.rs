//! The operating system this node runs on, behind a trait with a recorded double.
//!
//! Reads only: /proc, /sys, os-release, machine id, file system sizes, addresses. Facts are
//! computed from those texts by pure functions in [`facts`].

pub mod facts;
pub mod interfaces;
mod linux;
mod recorded;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use interfaces::InterfaceAddress;
pub use linux::Linux;
pub use recorded::Recorded;

/// Size and use of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub bytes: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    /// Mounted read-only, as the kernel does after errors of a disk.
    pub read_only: bool,
}

/// The file system of `path`, read away from the threads that wait: one that hangs holds up who asked only.
pub async fn disk(host: &Arc<dyn Host>, path: PathBuf) -> io::Result<Disk> {
    let host = host.clone();
    daemon::blocking(move || host.disk(&path)).await
}

/// What is read of the host.
pub trait Host: Send + Sync {
    /// The text of a small file.
    fn text(&self, path: &str) -> io::Result<String>;
    /// Names in a folder.
    fn names(&self, path: &str) -> io::Result<Vec<String>>;
    /// Blocks, see [`disk`].
    fn disk(&self, path: &Path) -> io::Result<Disk>;
    fn cpus(&self) -> u32;
    fn kernel_release(&self) -> String;
    /// The addresses that packets to the world would leave from, at most one a family, IPv4 first.
    fn routed_addresses(&self) -> Vec<IpAddr>;
    /// The addresses of all interfaces that are up.
    fn addresses(&self) -> Vec<InterfaceAddress>;
}
