//! A network namespace the edge lives in, joined to this machine by two interfaces. Its packets can be dropped without
//! either end being told. Needs root, `ip` and `nft`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Gone, with its interfaces, when dropped.
pub(super) struct Namespace {
    name: String,
    host: Ipv4Addr,
}

impl Namespace {
    pub(super) fn make() -> Result<Namespace> {
        let number = std::process::id();
        let name = format!("causeway-{number}");
        let (near, far) = (format!("cw{number}h"), format!("cw{number}e"));
        // Of the range for benchmarks (RFC 2544); four addresses per process.
        let [.., high, low] = (number << 2).to_be_bytes();
        let (host, edge) = (Ipv4Addr::new(198, 18, high, low | 1), Ipv4Addr::new(198, 18, high, low | 2));
        run("ip", &["netns", "add", &name])?;
        let namespace = Namespace { name, host };
        run("ip", &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &namespace.name])?;
        run("ip", &["address", "add", &format!("{host}/30"), "dev", &near])?;
        run("ip", &["link", "set", &near, "up"])?;
        namespace.inside(&["ip", "address", "add", &format!("{edge}/30"), "dev", &far])?;
        namespace.inside(&["ip", "link", "set", &far, "up"])?;
        namespace.inside(&["nft", "add", "table", "inet", "cut"])?;
        for hook in ["input", "output"] {
            let chain = format!("{{ type filter hook {hook} priority 0; policy accept; }}");
            namespace.inside(&["nft", "add", "chain", "inet", "cut", hook, &chain])?;
        }
        Ok(namespace)
    }

    /// This machine as the edge sees it.
    pub(super) fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// A command that runs in the namespace; its process is the program's own.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Drops every packet, or lets them pass again.
    pub(super) fn blackhole(&self, on: bool) -> Result<()> {
        for hook in ["input", "output"] {
            match on {
                true => self.inside(&["nft", "add", "rule", "inet", "cut", hook, "drop"])?,
                false => self.inside(&["nft", "flush", "chain", "inet", "cut", hook])?,
            }
        }
        Ok(())
    }

    fn inside(&self, command: &[&str]) -> Result<()> {
        run("ip", &[&["netns", "exec", &self.name], command].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(line)?;
    if !output.status.success() {
        bail!("{}: {}", line(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
