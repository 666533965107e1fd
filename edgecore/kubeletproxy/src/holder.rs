//! Whose process has the other end of a TCP connection on this machine, as the kernel tells in `/proc/net/tcp` and `tcp6`
//! (proc_net_tcp(5), `Documentation/networking/proc_net_tcp.rst`).

use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket per line, first those of IPv4. A socket of both families is among those of IPv6.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// `TCP_ESTABLISHED`.
const ESTABLISHED: &str = "01";
/// The kernel writes a table piece by piece, and others connect meanwhile: a line may be missed once.
const LOOKS: usize = 3;

#[derive(Debug, thiserror::Error)]
pub(crate) enum HolderError {
    #[error("reading {path}")]
    Read { path: &'static str, source: io::Error },
    #[error(
        "the kernel does not tell whose the other end is: it is not of this machine, or nobody has taken it yet"
    )]
    Unknown,
    #[error("a process of user {uid} has the other end, not one of user {wanted}")]
    Foreign { uid: u32, wanted: u32 },
}

/// The user whose process has the socket at `theirs` that is connected with `ours`, if it is on that line. `None` as well while no
/// process has taken the connection from the queue: the kernel tells user 0 then, whoever listens.
fn holder(line: &str, theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    if (local, remote) != (theirs, ours) || fields.next()? != ESTABLISHED {
        return None;
    }
    // Queues, timer, retransmissions.
    let mut fields = fields.skip(3);
    let uid = fields.next()?.parse().ok()?;
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some(uid)
}

/// `0100007F:280A`: words of 32 bits in the machine's own order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(plain(SocketAddr::new(ip, port)))
}

/// An address of IPv4 that is written as one of IPv6 is that of IPv4; without a zone.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Errors unless a process of `wanted` has the end of the connection that is not `ours`. Waits for the kernel's tables; `theirs` has to
/// have said something already, or nobody may have taken the connection yet.
pub(crate) fn check(theirs: SocketAddr, ours: SocketAddr, wanted: u32) -> Result<(), HolderError> {
    let (theirs, ours) = (plain(theirs), plain(ours));
    for path in TABLES.into_iter().cycle().take(TABLES.len() * LOOKS) {
        match look(path, theirs, ours).map_err(|source| HolderError::Read { path, source })? {
            Some(uid) if uid == wanted => return Ok(()),
            Some(uid) => return Err(HolderError::Foreign { uid, wanted }),
            None => {}
        }
    }
    Err(HolderError::Unknown)
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn look(path: &str, theirs: SocketAddr, ours: SocketAddr) -> io::Result<Option<u32>> {
    let table = match std::fs::File::open(path) {
        Ok(table) => table,
        // Without IPv6 there is one table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(table).lines() {
        if let Some(uid) = holder(&line?, theirs, ours) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const THEIRS: &str = "127.0.0.1:10250";
    const OURS: &str = "127.0.0.1:40000";

    fn of(line: &str) -> Option<u32> {
        holder(line, THEIRS.parse().unwrap(), OURS.parse().unwrap())
    }

    /// As on a machine of either byte order.
    fn hex(ip: &str) -> String {
        let words = |bytes: &[u8]| -> String {
            let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
            words.map(|word| format!("{word:08X}")).collect()
        };
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        }
    }

    fn line(local: (&str, u16), remote: (&str, u16), state: &str, uid: u32, inode: u64) -> String {
        let (local, remote) =
            (format!("{}:{:04X}", hex(local.0), local.1), format!("{}:{:04X}", hex(remote.0), remote.1));
        format!(
            "   5: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0000000000000000 20 4 30 10 -1"
        )
    }

    #[test]
    fn the_user_is_read_from_the_line_of_the_other_end_alone() {
        let (theirs, ours) = (("127.0.0.1", 10250), ("127.0.0.1", 40000));
        assert_eq!(of(&line(theirs, ours, "01", 1000, 7)), Some(1000));
        assert_eq!(of(&line(theirs, ours, "01", 0, 7)), Some(0));
        let mapped = (("::ffff:127.0.0.1", 10250), ("::ffff:127.0.0.1", 40000));
        assert_eq!(of(&line(mapped.0, mapped.1, "01", 65534, 7)), Some(65534));
        for other in [
            line(theirs, ours, "01", 0, 0),
            line(theirs, ours, "06", 0, 7),
            line(ours, theirs, "01", 0, 7),
            line(theirs, ("127.0.0.1", 40001), "01", 0, 7),
            line(theirs, ("127.0.0.2", 40000), "01", 0, 7),
            line(("::1", 10250), ("::1", 40000), "01", 0, 7),
            line(("0.0.0.0", 10250), ("0.0.0.0", 0), "0A", 0, 7),
        ] {
            assert_eq!(of(&other), None, "{other}");
        }
        let own = line(("::1", 10250), ("::1", 40000), "01", 3, 7);
        assert_eq!(holder(&own, "[::1]:10250".parse().unwrap(), "[::1]:40000".parse().unwrap()), Some(3));
    }

    #[test]
    fn lines_that_are_none_tell_nothing() {
        let whole = line(("127.0.0.1", 10250), ("127.0.0.1", 40000), "01", 1000, 7);
        for noise in [
            "",
            "sl local_address rem_address st",
            "0: 0100007F:280A",
            "0: x:y z:w 01",
            "0: 0100007F 0100007F 01",
        ] {
            assert_eq!(of(noise), None, "{noise}");
        }
        for end in 0..whole.find("1000").unwrap() {
            assert_eq!(of(&whole[..end]), None);
        }
        assert_eq!(of(&whole.replace("0100007F", "0100007é")), None);
    }

    #[test]
    fn the_kernel_tells_whose_a_connection_is_once_it_is_taken() {
        let own = rustix::process::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (theirs, ours) = (near.peer_addr().unwrap(), near.local_addr().unwrap());
            // In the queue it is nobody's, whatever the table says.
            assert!(matches!(check(theirs, ours, own), Err(HolderError::Unknown)));
            let (mut far, _) = listener.accept().unwrap();
            far.write_all(b"x").unwrap();
            near.read_exact(&mut [0]).unwrap();
            check(theirs, ours, own).unwrap();
            let foreign = check(theirs, ours, own + 1).unwrap_err();
            assert!(matches!(foreign, HolderError::Foreign { uid, .. } if uid == own), "{foreign}");
        }
    }

    #[test]
    fn a_process_of_another_user_is_told_from_ours() {
        let own = rustix::process::geteuid();
        if !own.is_root() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // A thread is what the kernel knows; it ends with the test, and nothing else of the program is another user's.
        let far = std::thread::spawn(move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            far.write_all(b"x").unwrap();
            far
        });
        let mut near = TcpStream::connect(address).unwrap();
        near.read_exact(&mut [0]).unwrap();
        let _far = far.join().unwrap();
        let foreign = check(address, near.local_addr().unwrap(), own.as_raw()).unwrap_err();
        assert!(matches!(foreign, HolderError::Foreign { uid: 65534, .. }), "{foreign}");
    }
}
