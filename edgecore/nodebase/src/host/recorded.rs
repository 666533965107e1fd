//! A host made of recorded texts, for tests.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::interfaces::InterfaceAddress;
use super::{Disk, Host};

/// Answers from its fields; a path that was not recorded is not found.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub texts: BTreeMap<String, String>,
    pub disk: Disk,
    pub cpus: u32,
    pub release: String,
    pub routed: Vec<IpAddr>,
    pub addresses: Vec<InterfaceAddress>,
}

impl Recorded {
    /// Adds a file.
    pub fn with(mut self, path: &str, text: &str) -> Recorded {
        self.texts.insert(path.to_owned(), text.to_owned());
        self
    }
}

impl Host for Recorded {
    fn text(&self, path: &str) -> io::Result<String> {
        self.texts.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self.texts.keys().filter_map(|known| known.strip_prefix(&prefix));
        let mut names: Vec<String> =
            below.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }

    fn disk(&self, _path: &Path) -> io::Result<Disk> {
        Ok(self.disk)
    }

    fn cpus(&self) -> u32 {
        self.cpus
    }

    fn kernel_release(&self) -> String {
        self.release.clone()
    }

    fn routed_addresses(&self) -> Vec<IpAddr> {
        self.routed.clone()
    }

    fn addresses(&self) -> Vec<InterfaceAddress> {
        self.addresses.clone()
    }
}
