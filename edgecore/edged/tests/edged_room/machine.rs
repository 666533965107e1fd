//! The machine of a room.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nodebase::host::interfaces::InterfaceAddress;
use nodebase::host::{Disk, Host, Recorded};

/// A host whose texts a test may change while it is read.
#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<Recorded>>);

impl Machine {
    /// MiB of memory that can be had, of 4096.
    pub(crate) fn set_memory_left(&self, mebibytes: u64) {
        let text = format!("MemTotal: {} kB\nMemAvailable: {} kB\n", 4096 * 1024, mebibytes * 1024);
        let mut recorded = self.0.lock().unwrap();
        *recorded = recorded.clone().with("/proc/meminfo", &text);
    }
}

impl Machine {
    /// The address of the machine's only interface.
    pub(crate) fn set_address(&self, text: &str) {
        let address = InterfaceAddress { interface: "eth0".to_owned(), ip: text.parse().unwrap() };
        self.0.lock().unwrap().addresses = vec![address];
    }
}

impl Host for Machine {
    fn text(&self, path: &str) -> std::io::Result<String> {
        self.0.lock().unwrap().text(path)
    }

    fn names(&self, path: &str) -> std::io::Result<Vec<String>> {
        self.0.lock().unwrap().names(path)
    }

    fn disk(&self, path: &Path) -> std::io::Result<Disk> {
        self.0.lock().unwrap().disk(path)
    }

    fn cpus(&self) -> u32 {
        2
    }

    fn kernel_release(&self) -> String {
        String::new()
    }

    fn routed_addresses(&self) -> Vec<IpAddr> {
        self.0.lock().unwrap().routed.clone()
    }

    fn addresses(&self) -> Vec<InterfaceAddress> {
        self.0.lock().unwrap().addresses.clone()
    }
}
