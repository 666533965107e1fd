//! A network namespace that reaches this machine at one address, and has rules of its own.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::Result;
use harness::programs;

/// A namespace and a pair of interfaces to it. Gone, with all rules in it, when dropped.
pub struct Network {
    name: String,
    /// The end on this machine.
    link: String,
    /// This machine, as seen from inside.
    pub outside: Ipv4Addr,
    pub inside: Ipv4Addr,
}

impl Network {
    pub fn make() -> Result<Network> {
        let number = std::process::id() % 16_384;
        let part = |shift: u32| u8::try_from(number >> shift & 0x7f).unwrap_or_default();
        // Of the range for measurements (RFC 2544), which no network has.
        let address = |last: u8| Ipv4Addr::new(198, 19, 128 + part(7), (part(0) << 1) + last);
        let (outside, inside) = (address(0), address(1));
        let network = Network {
            name: format!("causeway-proxy-{number}"),
            link: format!("cwp{number}"),
            outside,
            inside,
        };
        run("ip", &["netns", "add", &network.name])?;
        let (link, name) = (network.link.as_str(), network.name.as_str());
        run("ip", &["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        run("ip", &["address", "add", &format!("{outside}/31"), "dev", link])?;
        run("ip", &["link", "set", link, "up"])?;
        network.run("ip", &["address", "add", &format!("{inside}/31"), "dev", "eth0"])?;
        network.run("ip", &["link", "set", "lo", "up"])?;
        network.run("ip", &["link", "set", "eth0", "up"])?;
        network.run("ip", &["route", "add", "default", "via", &outside.to_string()])?;
        Ok(network)
    }

    /// A program in the namespace, with this machine's files.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Runs it to its end, and gives what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        programs::run(command)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for arguments in [["link", "delete", &self.link], ["netns", "delete", &self.name]] {
            if let Err(error) = run("ip", &arguments) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    programs::run(command)
}
