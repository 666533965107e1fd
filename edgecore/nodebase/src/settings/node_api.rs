//! Where the Node API is served.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Where the Node API is served, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The unix socket; its mode is 0600.
    pub socket: PathBuf,
    /// `None`: no TLS port.
    pub tls: Option<TlsPort>,
    /// KubeEdge's port without any authentication; `None` unless asked for.
    pub loopback: Option<SocketAddr>,
    /// Exec, attach and port-forward sessions in which nothing moves end after this.
    pub streaming_idle: Duration,
    /// Ports of the node that are reached through it.
    pub forwarded: ForwardedPorts,
}

/// Ports of the node's loopback address that the Node API's callers reach.
///
/// What listens there often trusts whoever comes from the machine, so it is opened port by port. EdgeCore's own ports are in no
/// range: who may use the Node API may not thereby speak to MQTT as a program of the machine.
#[derive(Clone, Debug, Default)]
pub struct ForwardedPorts {
    /// What was named alone.
    single: Vec<u16>,
    ranges: Vec<RangeInclusive<u16>>,
    /// EdgeCore listens there itself.
    own: Vec<u16>,
}

/// Why a port of the node is not reached. The texts are for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    #[error(
        "port {0} of the node is not forwarded: modules.edged.nodeAPI.forwardedPorts in its edgecore.yaml \
         does not have it"
    )]
    Unnamed(u16),
    #[error(
        "port {0} is EdgeCore's own: modules.edged.nodeAPI.forwardedPorts in edgecore.yaml has to name it \
         alone, not in a range"
    )]
    Own(u16),
}

impl ForwardedPorts {
    /// `own` are the ports at which EdgeCore listens. A range of one port names it alone.
    pub fn new(entries: impl IntoIterator<Item = RangeInclusive<u16>>, own: Vec<u16>) -> ForwardedPorts {
        let (single, ranges): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|range| range.start() == range.end());
        ForwardedPorts { single: single.into_iter().map(|range| *range.start()).collect(), ranges, own }
    }

    /// True if no port is forwarded.
    pub fn is_empty(&self) -> bool {
        self.single.is_empty() && self.ranges.is_empty()
    }

    /// Whether this port is reached.
    ///
    /// # Errors
    /// [`NotForwarded`]: it is not.
    pub fn check(&self, port: u16) -> Result<(), NotForwarded> {
        if self.single.contains(&port) {
            return Ok(());
        }
        match self.ranges.iter().any(|range| range.contains(&port)) {
            true if self.own.contains(&port) => Err(NotForwarded::Own(port)),
            true => Ok(()),
            false => Err(NotForwarded::Unnamed(port)),
        }
    }
}

/// The authenticated port.
#[derive(Clone, Debug)]
pub struct TlsPort {
    pub address: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Where certificate and key come from.
    pub source: Source,
    /// CAs whose certificates clients may show. `None`: those of the cluster, which the cloud tells and which are kept beside the
    /// certificate; only where that is asked for as well.
    pub client_ca: Option<PathBuf>,
    pub allowed: Allowed,
}

/// Where a certificate and its key come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody else writes the files, and replaces them.
    Files,
    /// This node asks for it by a signing request, and writes the files (`serverTLSBootstrap`).
    Asked,
}

/// Who is served: users by the common names of their certificates, groups by organisations. A user may be called like a
/// group and is not in it.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    pub clients: Vec<String>,
    pub groups: Vec<String>,
}

impl fmt::Display for ForwardedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = self.single.iter().map(u16::to_string);
        let ranges = self.ranges.iter().map(|range| format!("{}-{}", range.start(), range.end()));
        f.write_str(&single.chain(ranges).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_reached_that_are_named_and_own_ones_only_alone() {
        let policy =
            |entries: &[RangeInclusive<u16>]| ForwardedPorts::new(entries.iter().cloned(), vec![1883, 9092]);
        let none = policy(&[]);
        assert!(none.is_empty());
        assert_eq!(none.check(9100), Err(NotForwarded::Unnamed(9100)));
        let wide = policy(&[1..=65535]);
        assert_eq!((wide.check(1), wide.check(9100), wide.check(65535)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(wide.check(1883), Err(NotForwarded::Own(1883)));
        let named = policy(&[1000..=2000, 1883..=1883]);
        assert!(!named.is_empty());
        assert_eq!(named.to_string(), "1883,1000-2000");
        assert_eq!((named.check(1883), named.check(1999)), (Ok(()), Ok(())));
        assert_eq!(named.check(9092), Err(NotForwarded::Unnamed(9092)));
    }
}
