//! Both sides in a network namespace of their own: no default route, another address, no IPv4.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::containerd::Containerd;
use harness::programs::{self, Programs};
use harness::wait::PATIENCE;
use harness::{ports, wait};
use serde_json::Value;

/// A changed address is looked for every ten seconds.
const NOTICED: Duration = Duration::from_secs(30);

/// One interface, `eth0`, and no route beyond what its addresses bring. Gone, with what keadm set up in it, when dropped.
struct Network {
    name: String,
    programs: Programs,
    scratch: tempfile::TempDir,
}

impl Network {
    fn make(programs: &Programs, name: &str, addresses: &[&str]) -> Result<Network> {
        let name = format!("causeway-{name}-{}", std::process::id());
        let network = Network { name, programs: programs.clone(), scratch: tempfile::tempdir()? };
        run(Command::new("ip").args(["netns", "add", &network.name]))?;
        network.ip(&["link", "set", "lo", "up"])?;
        network.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth0p"])?;
        network.ip(&["link", "set", "eth0", "up"])?;
        network.ip(&["link", "set", "eth0p", "up"])?;
        for address in addresses {
            network.add(address)?;
        }
        Ok(network)
    }

    fn add(&self, address: &str) -> Result<()> {
        // Nobody else has it: it need not be probed for before it is used.
        let family: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        self.ip(&[&["address", "add", address, "dev", "eth0"], family].concat())
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        run(self.inside("ip").args(arguments)).map(|_| ())
    }

    /// A program in the network, with this machine's files.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// `keadm` for the side's folder.
    fn keadm(&self, side: &str, arguments: &[&str]) -> Result<String> {
        let keadm = self.programs.path("keadm");
        let root = self.scratch.path().join(side);
        run(self.inside(&keadm.to_string_lossy()).args(arguments).arg("--root").arg(root))
    }

    fn node(&self) -> Result<Value> {
        let kubeconfig = self.scratch.path().join("cloud/etc/kubeedge/admin.kubeconfig");
        let mut command = self.inside("kubectl");
        command.arg("--kubeconfig").arg(kubeconfig).args(["get", "node", "edge-1", "-o", "json"]);
        Ok(serde_json::from_str(&run(&mut command)?)?)
    }

    /// The node's InternalIPs, in the order it tells them.
    fn addresses(&self) -> Result<Vec<String>> {
        let node = self.node()?;
        let all = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let internal = all.iter().filter(|address| address["type"] == "InternalIP");
        Ok(internal.filter_map(|address| address["address"].as_str().map(str::to_owned)).collect())
    }

    /// `keadm init` and `keadm join`; `host` is where this machine is reached, `local` its loopback, as in URLs.
    fn set_up(&self, containerd: &Containerd, host: &str, local: &str) -> Result<()> {
        let free = || ports::free().map(|port| port.to_string());
        let (edges, certificates) = (free()?, free()?);
        let advertised = host.trim_matches(['[', ']']);
        self.keadm(
            "cloud",
            &[
                "init",
                "--standalone",
                "--advertise-address",
                advertised,
                "--set",
                &format!(
                    "modules.cloudHub.websocket.port={edges},modules.cloudHub.https.port={certificates}"
                ),
                "--set",
                &format!("modules.standalone.listen={local}:{}", free()?),
                "--set",
                &format!("commonConfig.monitorServer.bindAddress={local}:{}", free()?),
            ],
        )?;
        let token = self.keadm("cloud", &["gettoken"])?;
        self.keadm(
            "edge",
            &[
                "join",
                "-e",
                &format!("{host}:{edges}"),
                "-s",
                &certificates,
                "-t",
                token.trim(),
                "-i",
                "edge-1",
                "-p",
                &containerd.socket(),
                "--set",
                &format!("modules.eventBus.mqttServerInternal=tcp://{local}:{}", free()?),
                "--set",
                &format!("modules.edged.tailoredKubeletConfig.cgroupRoot=/{}", self.name),
                "--set",
                "modules.edged.tailoredKubeletConfig.evictionHard={}",
            ],
        )?;
        wait::for_true("the node's address", PATIENCE, || {
            Ok(!self.addresses().unwrap_or_default().is_empty())
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.keadm("edge", &["reset", "edge", "--force"]);
        let _ = self.keadm("cloud", &["reset", "cloud", "--force"]);
        let _ = run(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = programs::output(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A runtime without pods, and what drives it.
fn containerd(folder: &tempfile::TempDir) -> Result<(tokio::runtime::Runtime, Containerd)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let containerd = runtime.block_on(Containerd::start(&folder.path().join("containerd"), false))?;
    Ok((runtime, containerd))
}

#[test]
fn without_a_default_route_a_node_has_its_interfaces_address_and_tells_another_one() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (_runtime, containerd) = containerd(&folder)?;
    let network = Network::make(&Programs::find()?, "v4", &["10.77.0.5/24"])?;
    network.set_up(&containerd, "127.0.0.1", "127.0.0.1")?;
    ensure!(network.addresses()? == ["10.77.0.5"], "{:?}", network.addresses()?);
    network.add("10.78.0.6/24")?;
    network.ip(&["address", "delete", "10.77.0.5/24", "dev", "eth0"])?;
    wait::for_true("the other address", NOTICED, || Ok(network.addresses()? == ["10.78.0.6"]))
}

#[test]
fn a_machine_that_has_only_ipv6_runs_both_sides() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (_runtime, containerd) = containerd(&folder)?;
    let network = Network::make(&Programs::find()?, "v6", &["fd00:b::5/64"])?;
    network.ip(&["address", "delete", "127.0.0.1/8", "dev", "lo"])?;
    network.set_up(&containerd, "[fd00:b::5]", "[::1]")?;
    ensure!(network.addresses()? == ["fd00:b::5"], "{:?}", network.addresses()?);
    Ok(())
}
