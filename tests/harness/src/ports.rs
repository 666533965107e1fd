//! Ports on loopback for programs that are told theirs before they listen.

use std::net::{TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below the ports the kernel gives to connections: one of those could sit on a port while its program is down.
const FIRST: u16 = 12_000;
const BLOCKS: u16 = 300;
const BLOCK: u16 = 64;
/// Above these, of those that services may have on nodes.
const NODE_FIRST: u16 = FIRST + BLOCKS * BLOCK;
const NODE_BLOCKS: u16 = 24;

/// What this process has of the ports. A block belongs to whoever listens on its first port.
#[derive(Default)]
struct Leases {
    blocks: Vec<TcpListener>,
    /// The next port of the last block and how many are left of it.
    next: u16,
    left: u16,
}

static LEASES: Mutex<Option<Leases>> = Mutex::new(None);
static NODE_LEASES: Mutex<Option<Leases>> = Mutex::new(None);

/// A port, of TCP and of UDP, that nobody listens on and no other call of this or any other test gives.
pub fn free() -> Result<u16> {
    let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
    leases.get_or_insert_default().take(FIRST, BLOCKS)
}

/// Like [`free`], a port that may be the node port of a service (30000 to 32767).
pub fn free_on_nodes() -> Result<u16> {
    let mut leases = NODE_LEASES.lock().unwrap_or_else(PoisonError::into_inner);
    leases.get_or_insert_default().take(NODE_FIRST, NODE_BLOCKS)
}

impl Leases {
    fn take(&mut self, from: u16, blocks: u16) -> Result<u16> {
        loop {
            if self.left == 0 {
                self.lease(from, blocks)?;
            }
            let port = self.next;
            (self.next, self.left) = (port + 1, self.left - 1);
            let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok()
                && UdpSocket::bind(("127.0.0.1", port)).is_ok();
            if is_free {
                return Ok(port);
            }
        }
    }

    fn lease(&mut self, from: u16, blocks: u16) -> Result<()> {
        // Each test begins elsewhere: whoever still dials ports of a test that ended reaches nobody.
        let start = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or_default();
        for step in 0..blocks {
            let block = (start + step) % blocks;
            let first = from + block * BLOCK;
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", first)) {
                self.blocks.push(listener);
                (self.next, self.left) = (first + 1, BLOCK - 1);
                return Ok(());
            }
        }
        bail!("no free block of ports between {from} and {}", from + blocks * BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut other = Leases::default();
        let mut ports = BTreeSet::new();
        for _ in 0..2 * BLOCK {
            assert!(ports.insert(free().unwrap()));
            let node = free_on_nodes().unwrap();
            assert!((30_000..=32_767).contains(&node) && ports.insert(node));
            assert!(ports.insert(other.take(FIRST, BLOCKS).unwrap()));
        }
    }
}
