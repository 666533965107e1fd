//! Installations on one machine: what keadm looks at first, what it says, what it leaves behind.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use harness::cloud::Cloud;
use harness::edge::Edge;
use harness::programs::{self, Programs};
use harness::wait::PATIENCE;
use harness::{ports, wait};
use rustix::process::{Pid, Signal, kill_process};

/// A join without containers.
fn join(programs: &Programs, cloud: &Cloud, address: &str, root: &Path) -> Result<Command> {
    let mut command = Command::new(programs.path("keadm"));
    command.args([
        "join",
        "-e",
        address,
        "-s",
        &cloud.cert_port.to_string(),
        "-t",
        &cloud.token()?,
        "-i",
        "edge-1",
    ]);
    command.arg("--root").arg(root);
    let mqtt = format!("modules.eventBus.mqttServerInternal=tcp://127.0.0.1:{}", ports::free()?);
    command.args(["--set", &format!("modules.edged.enable=false,{mqtt}")]);
    Ok(command)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_join_that_is_broken_off_says_why_and_leaves_nothing_in_the_way() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    let root = scratch.path().join("site 1");
    // The certificate of the cloud is not for this address.
    let wrong = format!("127.0.0.2:{}", cloud.edge_port);
    let keadm = join(&programs, &cloud, &wrong, &root)?.stderr(Stdio::piped()).spawn()?;
    let log = root.join("var/log/kubeedge/edgecore.log");
    wait::for_true("EdgeCore's reason", PATIENCE, || {
        Ok(std::fs::read_to_string(&log).is_ok_and(|text| text.contains("not valid for name")))
    })?;
    // keadm looks once a second: its own words are waited for by the file it would leave.
    let pid = Pid::from_raw(keadm.id().cast_signed()).context("keadm has no pid")?;
    kill_process(pid, Signal::INT)?;
    let output = keadm.wait_with_output()?;
    ensure!(!output.status.success() && said(&output).contains("taken back"), "{}", said(&output));
    ensure!(said(&output).contains("waiting for https://127.0.0.2:"), "{}", said(&output));
    ensure!(!root.join("etc/kubeedge/config/edgecore.yaml").exists());
    ensure!(!root.join("var/lib/kubeedge/edgecore.pid").exists());

    let right = cloud.edge_address().to_string();
    let output = programs::output(&mut join(&programs, &cloud, &right, &root)?)?;
    ensure!(output.status.success(), "{}", said(&output));
    programs.keadm(&["reset", "edge", "--force", "--root", &root.to_string_lossy()])?;
    Ok(())
}

#[test]
fn an_init_that_fails_says_why_and_leaves_nothing_in_the_way_of_the_next() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("cloud");
    let text = root.to_string_lossy().into_owned();
    // A file where CloudCore wants a folder for its socket.
    let blocked = scratch.path().join("blocked");
    std::fs::write(&blocked, "")?;
    let mut arguments = vec!["init".to_owned(), "--standalone".to_owned(), "--root".to_owned(), text.clone()];
    for (key, port) in [("websocket", ports::free()?), ("https", ports::free()?)] {
        arguments.extend(["--set".to_owned(), format!("modules.cloudHub.{key}.port={port}")]);
    }
    let (api, probes) = (ports::free()?, ports::free()?);
    arguments.extend(["--set".to_owned(), format!("modules.standalone.listen=127.0.0.1:{api}")]);
    arguments
        .extend(["--set".to_owned(), format!("commonConfig.monitorServer.bindAddress=127.0.0.1:{probes}")]);
    let mut wrong: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let socket = format!(
        "modules.cloudHub.unixsocket.enable=true,modules.cloudHub.unixsocket.address=unix://{}/s.sock",
        blocked.display()
    );
    wrong.extend(["--set", &socket]);
    let error = format!("{:#}", programs.keadm(&wrong).err().context("init succeeded")?);
    ensure!(error.contains("taken back") && error.contains("CloudCore ended"), "{error}");
    ensure!(!root.join("etc/kubeedge/config/cloudcore.yaml").exists(), "its configuration is left");
    let made =
        ["var/lib/causeway/apiserver", "var/lib/kubeedge/cloudcore.pid", "etc/kubeedge/admin.kubeconfig"];
    for path in made {
        ensure!(!root.join(path).exists(), "{path} is left");
    }
    ensure!(root.join("var/log/kubeedge/cloudcore.log").exists(), "the log says why");

    let right: Vec<&str> = arguments.iter().map(String::as_str).collect();
    programs.keadm(&right)?;
    programs.keadm(&["reset", "cloud", "--force", "--root", &text])?;
    Ok(())
}

#[test]
fn a_second_installation_names_the_port_and_who_has_it_and_writes_nothing() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    let edge =
        Edge::join(&programs, &cloud, "edge-1", &scratch.path().join("edge"), cloud.edge_address(), None)?;
    let other = scratch.path().join("other");
    let mut command = join(&programs, &cloud, &cloud.edge_address().to_string(), &other)?;
    let taken = format!("modules.eventBus.mqttServerInternal=tcp://127.0.0.1:{}", edge.mqtt_port);
    let output = programs::output(command.args(["--set", &taken]))?;
    let holder = format!("edgecore (pid {})", edge.pid()?);
    ensure!(
        said(&output).contains(&holder) && said(&output).contains("mqttServerInternal"),
        "{}",
        said(&output)
    );
    let again = programs.keadm(&[
        "init",
        "--standalone",
        "--root",
        &other.to_string_lossy(),
        "--set",
        &format!("modules.cloudHub.websocket.port={}", cloud.edge_port),
    ]);
    let error = format!("{:#}", again.err().context("two on one port")?);
    ensure!(error.contains(&format!("cloudcore (pid {})", cloud.pid()?)), "{error}");
    ensure!(!other.exists(), "something was written");
    Ok(())
}

#[test]
fn a_node_without_a_runtime_is_refused_unless_it_runs_no_pods() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    let root = scratch.path().join("edge");
    let address = cloud.edge_address().to_string();
    let mut command = join(&programs, &cloud, &address, &root)?;
    let output = programs::output(command.args([
        "--set",
        "modules.edged.enable=true",
        "-p",
        "unix:///nonexistent.sock",
    ]))?;
    ensure!(said(&output).contains("apt-get install containerd"), "{}", said(&output));
    ensure!(!root.exists(), "something was written");
    Ok(())
}

#[test]
fn a_relative_kubeconfig_and_the_root_are_enough_for_the_next_commands() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::init(&programs, &scratch.path().join("cloud"))?;
    std::fs::copy(cloud.kubeconfig(), scratch.path().join("kc"))?;
    let mut command = Command::new(programs.path("keadm"));
    command.current_dir(scratch.path());
    command.args(["init", "--process", "--no-start", "--kube-config", "kc", "--root", "other"]);
    let output = programs::output(&mut command)?;
    ensure!(output.status.success(), "{}", said(&output));
    let root = scratch.path().join("other").to_string_lossy().into_owned();
    ensure!(programs.keadm(&["gettoken", "--root", &root])?.trim() == cloud.token()?);
    ensure!(programs.keadm(&["ca", "show", "--root", &root])?.contains("signs"));
    Ok(())
}

#[test]
fn a_file_of_another_program_or_with_a_wrong_value_is_refused_when_it_is_checked() -> Result<()> {
    let programs = Programs::find()?;
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("config.yaml");
    let check = |program: &str, text: &str| -> Result<(Option<i32>, String)> {
        let kind = if program == "edgecore" { "EdgeCore" } else { "CloudCore" };
        let of = |kind: &str| {
            format!("apiVersion: {}.config.kubeedge.io/v1alpha2\nkind: {kind}\n", kind.to_lowercase())
        };
        // The other program's, or this one's with something wrong.
        let text = if text.is_empty() {
            of(if kind == "EdgeCore" { "CloudCore" } else { "EdgeCore" })
        } else {
            of(kind) + text
        };
        std::fs::write(&file, text)?;
        let mut command = Command::new(programs.path(program));
        let output = programs::output(command.args(["--check", "--config"]).arg(&file))?;
        Ok((output.status.code(), said(&output)))
    };
    let cases = [
        ("edgecore", "", "cloudcore.config.kubeedge.io"),
        ("edgecore", "modules:\n  edgeHub:\n    heartbeat: often\n", "modules.edgeHub.heartbeat (line 5)"),
        (
            "edgecore",
            "modules: {eventBus: {mqttMode: 2, mqttServerExternal: 'ssl://a:8883'}}",
            "mqttServerExternal",
        ),
        ("edgecore", "modules: {eventBus: {eventBusTLS: {enable: true}}}", "eventBusTLS.enable"),
        ("cloudcore", "", "edgecore.config.kubeedge.io"),
        ("cloudcore", "modules:\n  cloudHub: {nodeLimit: many}\n", "modules.cloudHub.nodeLimit (line 4)"),
    ];
    for (program, text, named) in cases {
        let (code, said) = check(program, text)?;
        ensure!(code == Some(78) && said.contains(named), "{program} {text}: {code:?} {said}");
    }
    let file =
        "modules: {cloudHub: {advertiseAddress: [127.0.0.1], authorization: {enable: false, debug: true}}}";
    let (code, said) = check("cloudcore", file)?;
    ensure!(code == Some(0) && said.contains("authorization stays on"), "{code:?} {said}");
    Ok(())
}
