//! The addresses of this node: found at the start, looked at again from time to time, told to who uses them.

use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::host::interfaces::{NodeAddresses, choose};
use podmodel::board::Board;

/// How often they are looked at: a few system calls.
const CHECK: Duration = Duration::from_secs(10);
/// What a node says that has none.
const NOWHERE: &str = "127.0.0.1";
const KEY: &str = "modules.edged.nodeIP";

/// Handle of the addresses.
pub struct Addresses {
    wanted: Vec<IpAddr>,
    found: watch::Sender<NodeAddresses>,
}

impl Addresses {
    /// `wanted` is the configuration's: none, one, or one of each family.
    pub fn find(wanted: Vec<IpAddr>, host: &dyn Host) -> Addresses {
        let found = look(&wanted, host);
        warn(&found);
        Addresses { wanted, found: watch::channel(found).0 }
    }

    /// The node's addresses as texts, the first one first.
    pub fn all(&self) -> Vec<String> {
        match &*self.found.borrow() {
            NodeAddresses::Sure(ips) | NodeAddresses::Guessed(ips) => {
                ips.iter().map(ToString::to_string).collect()
            }
            NodeAddresses::Nothing => vec![NOWHERE.to_owned()],
        }
    }

    pub fn changes(&self) -> watch::Receiver<NodeAddresses> {
        self.found.subscribe()
    }

    /// Looks again. True if they are others now; a machine that has lost its only address is still who it was.
    fn refresh(&self, host: &dyn Host) -> bool {
        let found = look(&self.wanted, host);
        self.found.send_if_modified(|known| {
            let is_news = found != NodeAddresses::Nothing && found != *known;
            if is_news {
                warn(&found);
                *known = found;
            }
            is_news
        })
    }
}

fn look(wanted: &[IpAddr], host: &dyn Host) -> NodeAddresses {
    choose(wanted, &host.routed_addresses(), &host.addresses())
}

fn warn(found: &NodeAddresses) {
    match found {
        NodeAddresses::Sure(_) => {}
        NodeAddresses::Guessed(ips) => {
            tracing::warn!(peer = ?ips, key = KEY, "no default route and several interfaces: the node's address is a guess, name it by its key");
        }
        NodeAddresses::Nothing => {
            tracing::warn!(
                peer = NOWHERE,
                key = KEY,
                "no address of this machine can be reached by others: name it by its key"
            );
        }
    }
}

/// Follows the machine's addresses until `stop`. Pods in its network have other addresses with it.
pub fn follow(
    addresses: Arc<Addresses>,
    board: Board,
    host: Arc<dyn Host>,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(CHECK) => {}
            }
            if addresses.refresh(&*host) {
                tracing::info!(peer = ?addresses.all(), "the node's addresses changed");
                board.entries().iter().for_each(|entry| entry.wake.now());
            }
        }
    })
}
