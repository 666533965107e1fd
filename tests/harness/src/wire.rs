//! Counts what crosses a TCP port of this machine as the wire would carry it: whole IP packets, acknowledgements too.
//! Needs root and `nft`.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::programs;

/// Counts until dropped.
pub struct Counter {
    table: String,
}

impl Counter {
    pub fn start(at: SocketAddr) -> Result<Counter> {
        let port = at.port().to_string();
        let counter = Counter { table: format!("causeway-{port}") };
        nft(&["add", "table", "inet", &counter.table])?;
        let chain = "{ type filter hook input priority 0; policy accept; }";
        nft(&["add", "chain", "inet", &counter.table, "in", chain])?;
        for direction in ["dport", "sport"] {
            nft(&["add", "rule", "inet", &counter.table, "in", "tcp", direction, &port, "counter"])?;
        }
        Ok(counter)
    }

    /// Bytes of IP packets both ways so far.
    pub fn bytes(&self) -> Result<u64> {
        let listed: Value = serde_json::from_str(&nft(&["-j", "list", "table", "inet", &self.table])?)?;
        let rules = listed["nftables"].as_array().context("nft's answer")?.iter();
        let expressions = rules.filter_map(|entry| entry["rule"]["expr"].as_array()).flatten();
        let counts = expressions.filter_map(|expression| expression["counter"]["bytes"].as_u64());
        Ok(counts.sum())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = nft(&["delete", "table", "inet", &self.table]);
    }
}

fn nft(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("nft");
    command.args(arguments);
    programs::run(command)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn packets_of_the_port_are_counted_with_their_headers() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let counter = Counter::start(listener.local_addr()?)?;
        assert_eq!(counter.bytes()?, 0);
        let mut near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        near.write_all(&[0; 1000])?;
        far.read_exact(&mut [0; 1000])?;
        let bytes = counter.bytes()?;
        assert!((1200..2000).contains(&bytes), "{bytes}: three packets of a handshake, one of data");
        Ok(())
    }
}
