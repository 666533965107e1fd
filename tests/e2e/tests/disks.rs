//! Disks that are full, and folders that another program has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::programs::{self, Programs};
use harness::site::{NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;

/// A small file system in memory; gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Result<Disk> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        programs::run(command)?;
        Ok(Disk(at.to_owned()))
    }

    /// Takes all the room there is.
    fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler"))?;
        let block = vec![1_u8; 4096];
        while file.write_all(&block).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn edgecore_starts_on_a_full_disk_serves_its_pods_and_starts_over_when_there_is_room() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let programs = Programs::find()?;
    // Goes after the site, whose end needs what is on it.
    let mut held = None;
    let site = Site::start(&programs, true, |_| {})?;
    site.node_ready()?;
    site.apply_greeter()?;
    let before = site.pod_running()?;
    let edge = &site.edge;
    let log = || -> Result<String> { Ok(std::fs::read_to_string(edge.log())?) };

    // Its folder moves to a small disk, which is full by then.
    edge.kill9()?;
    let folder = edge.database().parent().context("a folder")?.to_owned();
    let copy = site.folder().join("copy");
    programs::run({
        let mut command = Command::new("cp");
        command.arg("-a").arg(&folder).arg(&copy);
        command
    })?;
    let disk = held.insert(Disk::mount(&folder, "6m")?);
    for entry in std::fs::read_dir(&copy)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    disk.fill()?;
    edge.start()?;
    wait::for_true("EdgeCore says what is wrong", PATIENCE, || {
        Ok(log()?.contains("takes no writes") && log()?.contains("make room"))
    })?;
    wait::pause(Duration::from_secs(3));
    edge.pid().context("EdgeCore ended on a full disk")?;
    let running = site.pod_running()?;
    ensure!(running == before, "{running:?} instead of {before:?}");
    ensure!(site.kubectl().field("node", NODE, ".metadata.name")? == NODE);

    disk.make_room()?;
    wait::for_true("EdgeCore ends to start over", PATIENCE, || Ok(edge.pid().is_err()))?;
    ensure!(log()?.contains("takes writes again"), "{}", log()?);
    // As its service manager does.
    edge.start()?;
    site.set_greeting("stored again")?;
    site.log_line("stored again")?;
    ensure!(site.pod_running()? == before);
    Ok(())
}

#[test]
fn a_second_edgecore_on_the_same_folder_ends_before_it_takes_anything_from_the_first() -> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let programs = Programs::find()?;
    let site = Site::start(&programs, true, |_| {})?;
    site.node_ready()?;
    let first = site.edge.pid()?;
    let mut second = Command::new(programs.path("edgecore"));
    second.arg("--config").arg(site.edge.root.join("etc/kubeedge/config/edgecore.yaml"));
    let output = programs::output(&mut second)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(said.contains(&format!("process {first}")) && said.contains("in use"), "{said}");
    // The Node API of the first answers at its socket.
    let socket = site.edge.root.join("var/lib/kubeedge/edged.sock");
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    ensure!(site.edge.pid()? == first);
    Ok(())
}
