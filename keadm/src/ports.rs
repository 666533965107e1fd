//! Ports an installation needs, looked at before anything is written: who has one already is named.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::bail;
use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};

/// A port that a program will listen on.
#[derive(Debug)]
pub(crate) struct Needed {
    pub what: &'static str,
    pub address: SocketAddr,
    pub udp: bool,
    /// What to give so that another port is used.
    pub change: String,
}

/// An error names every port that is taken, by whom, and how to use another one.
pub(crate) fn check(needed: &[Needed]) -> anyhow::Result<()> {
    let taken: Vec<String> = needed.iter().filter(|port| is_taken(port)).map(told).collect();
    if !taken.is_empty() {
        bail!("{}", taken.join("\n"));
    }
    Ok(())
}

fn is_taken(port: &Needed) -> bool {
    let tried = if port.udp {
        UdpSocket::bind(port.address).map(drop)
    } else {
        TcpListener::bind(port.address).map(drop)
    };
    // Another error (an address that this machine does not have) is the program's to tell.
    tried.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn told(port: &Needed) -> String {
    let protocol = if port.udp { "udp" } else { "tcp" };
    let holder = holder(port).map_or_else(|| "another program".to_owned(), |process| name(&process));
    format!(
        "port {}/{protocol} for {} is taken by {holder}; use another one: {}",
        port.address.port(),
        port.what,
        port.change
    )
}

fn holder(port: &Needed) -> Option<Process> {
    let number = port.address.port();
    let inodes: Vec<u64> = if port.udp {
        let sockets = procfs::net::udp().into_iter().chain(procfs::net::udp6()).flatten();
        sockets.filter(|socket| socket.local_address.port() == number).map(|socket| socket.inode).collect()
    } else {
        let sockets = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
        let listening = sockets.filter(|socket| socket.state == TcpState::Listen);
        listening.filter(|socket| socket.local_address.port() == number).map(|socket| socket.inode).collect()
    };
    let mut processes = procfs::process::all_processes().ok()?.flatten();
    processes.find(|process| {
        let mut files = process.fd().into_iter().flatten().flatten();
        files.any(|file| matches!(file.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
    })
}

/// What an operator knows the process by: the program, its number, and the configuration it was started with.
fn name(process: &Process) -> String {
    let words = process.cmdline().unwrap_or_default();
    let comm = process.stat().map(|stat| stat.comm).unwrap_or_default();
    let config = words.iter().position(|word| word == "--config").and_then(|at| words.get(at + 1));
    let config = config.map_or_else(String::new, |file| format!(" of {file}"));
    format!("{comm} (pid {}){config}", process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder_and_the_way_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let needed = |address| Needed { what: "MQTT", address, udp: false, change: "--set x=y".into() };
        let error = check(&[needed(address)]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())) && error.contains("--set x=y"),
            "{error}"
        );
        drop(listener);
        assert!(check(&[needed(address)]).is_ok());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = Needed { udp: true, ..needed(udp.local_addr().unwrap()) };
        assert!(check(&[port]).unwrap_err().to_string().contains("/udp"));
    }
}
