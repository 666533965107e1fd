//! The Node APIs of nodes, for API servers: each connection is a stream in the session of its node.

use std::sync::{Arc, OnceLock};

use apiserver::{Connection, Nodes};
use daemon::memory::HeapTrimmer;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use message::NodeName;
use tokio::io::DuplexStream;

use crate::cloudhub::{NoStream, Registry};
use crate::peers::Peers;
use crate::tunnels::Tunnels;

/// Known before the hub is: the API server is up first.
#[derive(Clone, Default)]
pub struct NodeStreams(Arc<OnceLock<Ways>>);

struct Ways {
    sessions: Registry,
    tunnels: Tunnels,
    peers: Option<Peers>,
    trimmer: HeapTrimmer,
}

impl NodeStreams {
    /// From now on nodes are reached through these sessions, through tunnels where a session takes no streams, and through other
    /// replicas. `trimmer` is told of each: they use much memory for a short time.
    pub fn through(&self, sessions: Registry, tunnels: Tunnels, peers: Option<Peers>, trimmer: HeapTrimmer) {
        // Bound once, by the program.
        let _ = self.0.set(Ways { sessions, tunnels, peers, trimmer });
    }

    /// A stream to the Node API of a node, wherever it is connected.
    ///
    /// # Errors
    /// Why there is none, for who asked to read.
    pub async fn open(&self, node: &NodeName) -> Result<Box<dyn Connection>, String> {
        let here = match self.open_here(node).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(why) => why,
        };
        let peers = self.0.get().and_then(|ways| ways.peers.as_ref());
        match (here, peers) {
            (NoStream::Away, Some(peers)) => Ok(Box::new(peers.open(node).await?)),
            // A session that takes no streams may be here, and the node's tunnel at another replica.
            (NoStream::Unable, Some(peers)) => match peers.open(node).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(_) => Err(here.to_string()),
            },
            (why, _) => Err(why.to_string()),
        }
    }

    /// A stream to a node that is connected to this CloudCore.
    ///
    /// # Errors
    /// [`NoStream`], as [`crate::cloudhub::StreamDoor::open`]'s.
    pub async fn open_here(&self, node: &NodeName) -> Result<DuplexStream, NoStream> {
        let ways = self.0.get().ok_or(NoStream::Away)?;
        ways.trimmer.note();
        let in_session = match ways.sessions.streams(node) {
            Some(door) => door.open().await,
            None => Err(NoStream::Away),
        };
        match (in_session, ways.tunnels.door(node)) {
            (Err(NoStream::Away | NoStream::Unable), Some(tunnel)) => tunnel.open().await,
            (opened, _) => opened,
        }
    }
}

impl Nodes for NodeStreams {
    fn connect<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<Box<dyn Connection>, String>> {
        async move {
            let name = NodeName::new(node).map_err(|error| error.to_string())?;
            self.open(&name).await
        }
        .boxed()
    }
}
