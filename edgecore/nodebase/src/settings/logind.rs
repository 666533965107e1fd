//! How the machine's shutdown is heard of.

use std::path::PathBuf;

/// The programs that speak to logind.
#[derive(Clone, Debug)]
pub struct Programs {
    pub inhibit: PathBuf,
    pub monitor: PathBuf,
}

impl Default for Programs {
    fn default() -> Programs {
        Programs { inhibit: PathBuf::from("systemd-inhibit"), monitor: PathBuf::from("busctl") }
    }
}
