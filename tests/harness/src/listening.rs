//! Where a process listens, as the kernel tells (proc(5)), so that no port or socket of it is forgotten.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::noise::Endpoint;

/// State of a TCP socket that listens, and of a UDP socket that is connected to nobody.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";
/// Flag of a Unix socket that listens.
const ACCEPTS: &str = "00010000";

/// All endpoints that the process `pid` serves, in order. Addresses that mean "any" are those of loopback; a Unix
/// socket has the name it was bound to, whatever it is called since.
pub fn endpoints(pid: i32) -> Result<Vec<Endpoint>> {
    let sockets = sockets(pid).with_context(|| format!("reading the sockets of process {pid}"))?;
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut endpoints = Vec::new();
    for (name, state) in [("tcp", LISTENS), ("tcp6", LISTENS), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)] {
        let found = internet(&table(name), state, &sockets);
        let make = if name.starts_with("tcp") { Endpoint::Tcp } else { Endpoint::Udp };
        endpoints.extend(found.into_iter().map(make));
    }
    endpoints.extend(unix(&table("unix"), &sockets).into_iter().map(Endpoint::Unix));
    endpoints.sort();
    Ok(endpoints)
}

/// Inodes of the sockets a process has open.
fn sockets(pid: i32) -> Result<BTreeSet<String>> {
    let mut inodes = BTreeSet::new();
    for file in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        // A file that was closed meanwhile.
        let Ok(link) = std::fs::read_link(file.path()) else { continue };
        let link = link.to_string_lossy().into_owned();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.map(str::to_owned));
    }
    Ok(inodes)
}

fn internet(table: &str, state: &str, sockets: &BTreeSet<String>) -> Vec<SocketAddr> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = lines.filter(|fields| {
        fields.get(3) == Some(&state) && fields.get(9).is_some_and(|inode| sockets.contains(*inode))
    });
    own.filter_map(|fields| address(fields.get(1)?)).collect()
}

/// `0100007F:1F90`: words of the address in the machine's order, the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if words.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
        IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)
    };
    let ip = match ip {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn unix(table: &str, sockets: &BTreeSet<String>) -> Vec<PathBuf> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = lines.filter(|fields| {
        fields.get(3) == Some(&ACCEPTS) && fields.get(6).is_some_and(|inode| sockets.contains(*inode))
    });
    own.filter_map(|fields| fields.get(7).map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_process_is_reached_where_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let _unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let six = TcpListener::bind("[::1]:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let found = endpoints(i32::try_from(std::process::id()).unwrap()).unwrap();
        for wanted in [
            Endpoint::Tcp(([127, 0, 0, 1], port).into()),
            Endpoint::Tcp(six.local_addr().unwrap()),
            Endpoint::Udp(udp.local_addr().unwrap()),
            Endpoint::Unix(path),
        ] {
            assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
        }
    }
}
