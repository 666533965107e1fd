//! kubectl reaches containers of a node through the node's own link: nothing listens at the edge.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::terminal::Terminal;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use harness::wait::PATIENCE;
use harness::{given, wait};
use serde_json::{Value, json};

/// Bytes that are carried each way.
const BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a file that is copied each way.
const FILE: usize = 104 * 1024 * 1024;
/// Lines a container writes.
const LINES: usize = 20_000;
/// Connections of one port-forward at once.
const CONNECTIONS: usize = 50;

fn pod(name: &str, script: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": NODE, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": IMAGE, "stdin": true, "command": ["sh", "-c", script]}]}})
    .to_string()
}

fn in_phase(site: &Site, name: &str, phase: &str) -> Result<()> {
    wait::for_true(&format!("{name} is {phase}"), PATIENCE, || {
        Ok(site.kubectl().field("pod", name, ".status.phase")? == phase)
    })
}

/// Runs a command with this on its standard input.
fn feed(mut command: Command, input: &[u8]) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdin, input) = (child.stdin.take().context("no input")?, input.to_vec());
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    writing.join().map_err(|_| anyhow::anyhow!("the writer failed"))??;
    Ok(output)
}

fn bytes() -> Vec<u8> {
    (0..BYTES).map(|at| (at * 31 % 251) as u8).collect()
}

/// A child that is ended with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn logs_commands_files_and_ports_of_a_pod_are_reached_through_the_link() -> Result<()> {
    reached(&[])
}

#[test]
fn and_over_quic_through_streams_beside_the_frames() -> Result<()> {
    reached(&["modules.edgeHub.quic.enable=true", "modules.edgeHub.websocket.enable=false"])
}

fn reached(edge: &[&str]) -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let site = Site::start_with(&Programs::find()?, true, edge, |_| {})?;
    site.node_ready()?;
    let kubectl = site.kubectl();
    kubectl.apply(&pod(
        "shell",
        "echo started; mkdir /www; echo served > /www/index.html; httpd -p 8080 -h /www; cat",
    ))?;
    // containerd 1.6 can lose what a program wrote right before it ended.
    kubectl.apply(&pod("lines", &format!("seq 1 {LINES}; sleep 3")))?;
    in_phase(&site, "shell", "Running")?;
    in_phase(&site, "lines", "Succeeded")?;

    logs(&site)?;
    commands(&site)?;
    attached(&site)?;
    terminal(&site)?;
    files(&site)?;
    ports(&site)?;
    node_api(&site)?;
    proxies(&site)?;

    // The relay carries TCP.
    if !edge.is_empty() {
        return Ok(());
    }
    // Without a link the answer is an error, at once, and says what to do.
    site.relay.cut();
    wait::for_true("the node's session is over", PATIENCE, || {
        let error =
            kubectl.run(&["logs", "shell"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(error.contains("not connected"))
    })?;
    site.relay.heal();
    wait::for_true("logs after the cut", PATIENCE, || Ok(kubectl.run(&["logs", "shell"]).is_ok()))
}

fn logs(site: &Site) -> Result<()> {
    let kubectl = site.kubectl();
    ensure!(kubectl.run(&["logs", "shell"])? == "started\n");
    let all: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    let told = kubectl.run(&["logs", "-f", "lines"])?;
    let differs = told.lines().zip(all.lines()).find(|(told, line)| told != line);
    ensure!(told == all, "{} bytes of {}, first other line {differs:?}", told.len(), all.len());
    ensure!(kubectl.run(&["logs", "--tail=2", "lines"])? == format!("{}\n{LINES}\n", LINES - 1));
    let stamped = kubectl.run(&["logs", "--timestamps", "--limit-bytes=20", "lines"])?;
    ensure!(stamped.starts_with("20") && stamped.len() == 20, "{stamped:?}");
    let none = kubectl.run(&["logs", "shell", "-c", "other"]).err().context("no such container")?;
    ensure!(format!("{none:#}").contains("container other is not valid for pod shell"), "{none:#}");
    Ok(())
}

fn commands(site: &Site) -> Result<()> {
    let kubectl = site.kubectl();
    let script = "echo out; echo err >&2; exit 7";
    let ran = kubectl.command(&["exec", "shell", "--", "sh", "-c", script]).output()?;
    let error = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.stdout == b"out\n" && error.contains("err") && ran.status.code() == Some(7), "{ran:?}");
    // The end of the input is passed on.
    let counted =
        feed(kubectl.command(&["exec", "-i", "shell", "--", "sh", "-c", "cat | md5sum; cat"]), &bytes())?;
    let sum = feed(Command::new("md5sum"), &bytes())?;
    ensure!(counted.status.success() && counted.stdout == sum.stdout, "{counted:?}");
    let missing = kubectl.command(&["exec", "shell", "--", "/no/such/program"]).output()?;
    ensure!(!missing.status.success(), "{missing:?}");
    Ok(())
}

fn attached(site: &Site) -> Result<()> {
    let mut command = site.kubectl().command(&["attach", "-i", "shell"]);
    let mut child =
        Ending(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let mut stdin = child.0.stdin.take().context("no input")?;
    let mut stdout = BufReader::new(child.0.stdout.take().context("no output")?);
    writeln!(stdin, "said to it")?;
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    ensure!(line == "said to it\n", "{line:?}");
    Ok(())
}

/// A shell at a terminal knows how large it is, and hears of it when that changes.
fn terminal(site: &Site) -> Result<()> {
    let command = site.kubectl().command(&["exec", "-it", "shell", "--", "sh"]);
    let mut terminal = Terminal::run(&command, [33, 101])?;
    // kubectl tells the size right after the shell has begun.
    asks_size(&mut terminal, "33 101")?;
    terminal.resize([51, 133])?;
    asks_size(&mut terminal, "51 133")?;
    terminal.type_line("exit 7")?;
    let status = terminal.end()?;
    ensure!(status.code() == Some(7), "{status}: {:?}", terminal.shown());
    Ok(())
}

/// Asks the shell for its size until it is this.
fn asks_size(terminal: &mut Terminal, size: &str) -> Result<()> {
    wait::for_true(&format!("a terminal of {size}"), PATIENCE, || {
        let before = terminal.shown().len();
        terminal.type_line("stty size; echo asked-$?")?;
        wait::for_true("an answer", PATIENCE, || Ok(terminal.shown()[before..].contains("asked-0")))?;
        Ok(terminal.shown().contains(size))
    })
}

fn files(site: &Site) -> Result<()> {
    let (there, back) = (site.folder().join("there"), site.folder().join("back"));
    let file = bytes().repeat(FILE / BYTES);
    std::fs::write(&there, &file)?;
    let (from, to) = (there.display().to_string(), back.display().to_string());
    site.kubectl().run(&["cp", &from, "shell:/copied"])?;
    site.kubectl().run(&["cp", "shell:/copied", &to])?;
    ensure!(std::fs::read(back)? == file, "what came back is what went");
    Ok(())
}

fn ports(site: &Site) -> Result<()> {
    let mut command = site.kubectl().command(&["port-forward", "pod/shell", ":8080"]);
    let mut child = Ending(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    let (mut said, mut stdout) = (String::new(), BufReader::new(child.0.stdout.take().context("no output")?));
    stdout.read_line(&mut said)?;
    // It writes a line for each connection.
    let lines = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let port: u16 = said
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context("no port")?
        .parse()?;
    let get = move || -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let asked: Vec<_> = (0..CONNECTIONS).map(|_| std::thread::spawn(get)).collect();
    for answer in asked {
        let answer = answer.join().map_err(|_| anyhow::anyhow!("a client failed"))??;
        ensure!(answer.ends_with("served\n"), "{answer:?}");
    }
    drop(child);
    lines.join().map_err(|_| anyhow::anyhow!("the reader failed"))??;
    Ok(())
}

/// The API's proxies of pods and services lead to a port of the pod.
fn proxies(site: &Site) -> Result<()> {
    let kubectl = site.kubectl();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "shell"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    kubectl.apply(&service.to_string())?;
    let raw = |path: &str| kubectl.run(&["get", "--raw", &format!("/api/v1/namespaces/default/{path}")]);
    ensure!(raw("pods/shell:8080/proxy/")? == "served\n");
    ensure!(raw("services/web:http/proxy/index.html")? == "served\n");
    let missing = raw("pods/shell:8080/proxy/nothing").err().context("no such file")?;
    ensure!(format!("{missing:#}").contains("ould not find"), "{missing:#}");
    let closed = raw("pods/shell:9999/proxy/").err().context("nobody listens")?;
    ensure!(format!("{closed:#}").contains("9999"), "{closed:#}");
    Ok(())
}

fn node_api(site: &Site) -> Result<()> {
    let raw =
        |path: &str| site.kubectl().run(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/{path}")]);
    let summary: Value = serde_json::from_str(&raw("stats/summary")?)?;
    ensure!(summary["node"]["nodeName"] == NODE, "{summary}");
    ensure!(raw("metrics/resource")?.contains("node_cpu_usage_seconds_total"));
    let missing = raw("no/such/thing").err().context("no such path")?;
    ensure!(format!("{missing:#}").contains("NotFound"), "{missing:#}");
    // A cluster's API server has usage from a metrics server, if there is one.
    if given::kubeconfig().is_some() {
        return Ok(());
    }
    let top = |what: &[&str]| site.kubectl().run(&[&["top"], what].concat());
    wait::for_true("usage of the node and of a pod", PATIENCE, || {
        let node = top(&["node"]).is_ok_and(|table| table.contains(NODE));
        Ok(node && top(&["pod", "--containers"]).is_ok_and(|table| table.contains("shell")))
    })?;
    let labelled = top(&["pod", "-l", "app=shell", "--no-headers"])?;
    ensure!(labelled.starts_with("shell ") && labelled.lines().count() == 1, "{labelled}");
    Ok(())
}
