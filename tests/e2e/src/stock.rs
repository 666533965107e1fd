//! Kubernetes' own programs of a node, and CoreDNS, in front of MetaServer. Nothing of them is in this repository: variables name the binaries.

mod client;
mod dns;
mod hub;
mod kubelet;
mod network;
mod proxy;

use std::path::PathBuf;

pub use client::Client;
pub use dns::{Answer, CoreDns, Told};
pub use hub::{Hub, wait_until_cut};
pub use kubelet::Kubelet;
pub use network::Network;
pub use proxy::{KubeProxy, Rules};

/// The binary that the environment names in `variable`; none, and why is printed, if it names none.
#[allow(clippy::print_stderr)]
pub fn binary(variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    if named.is_none() {
        eprintln!("skipped: {variable} names no binary of Kubernetes 1.36 or CoreDNS 1.13");
    }
    named
}
