//! Starting and stopping cloudcore and edgecore: by systemd on the machine's own folders, else as a background process
//! with a pid file. Never through a shell.

pub(crate) mod log;
#[cfg(test)]
mod unit_tests;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::layout::Layout;
use crate::render;
use log::Log;

/// Time a program gets to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Logs name pods and addresses: they are not for everyone.
const LOG_MODE: u32 = 0o640;
const POLL: Duration = Duration::from_millis(100);

const UNITS: &[(&str, &str)] = &[
    ("cloudcore", include_str!("../../build/systemd/cloudcore.service")),
    ("edgecore", include_str!("../../build/systemd/edgecore.service")),
];

/// A program of an installation.
pub(crate) struct Program<'a> {
    pub name: &'static str,
    pub layout: &'a Layout,
}

impl Program<'_> {
    fn by_systemd(&self) -> bool {
        self.layout.is_system() && Path::new("/run/systemd/system").is_dir()
    }

    /// The binary: beside keadm, or on the path.
    pub(crate) fn binary(&self) -> anyhow::Result<PathBuf> {
        let beside = std::env::current_exe()?.with_file_name(self.name);
        if beside.is_file() {
            return Ok(beside);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(self.name))
            .find(|file| file.is_file())
            .with_context(|| format!("{} is neither beside keadm nor on the PATH", self.name))
    }

    /// Starts the program with its configuration file. It must not be running.
    pub(crate) fn start(&self, config: &Path) -> anyhow::Result<()> {
        if let Some(pid) = self.running() {
            bail!("{} is running already (pid {pid}); keadm reset stops it", self.name);
        }
        let binary = self.binary()?;
        if self.by_systemd() { self.start_unit(&binary) } else { self.start_process(&binary, config) }
    }

    fn start_unit(&self, binary: &Path) -> anyhow::Result<()> {
        let has_user_namespaces = has_user_namespaces(Path::new("/proc"));
        if !has_user_namespaces {
            render::done(&format!(
                "unit {}: without PrivateUsers=, as this machine forbids user namespaces",
                self.name
            ));
        }
        let unit = unit(self.name, binary, has_user_namespaces);
        let path = PathBuf::from(format!("/etc/systemd/system/{}.service", self.name));
        pki::files::write_atomic(&path, unit.as_bytes(), 0o644)?;
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &["enable", "--now", self.name])?;
        render::done(&format!("started systemd unit {} (journalctl -u {})", self.name, self.name));
        Ok(())
    }

    fn start_process(&self, binary: &Path, config: &Path) -> anyhow::Result<()> {
        let log = self.layout.log(self.name);
        let pid_file = self.layout.pid_file(self.name);
        for file in [&log, &pid_file] {
            let folder = file.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        // For what is said before the program has its log; it keeps the log short itself.
        let open = || File::options().create(true).append(true).mode(LOG_MODE).open(&log);
        let output = open().with_context(|| format!("opening {}", log.display()))?;
        let child = Command::new(binary)
            .arg("--config")
            .arg(config)
            .arg("--log-file")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        std::fs::write(&pid_file, format!("{}\n", child.id()))
            .with_context(|| format!("writing {}", pid_file.display()))?;
        render::done(&format!("started {} as pid {}, log {}", self.name, child.id(), log.display()));
        Ok(())
    }

    /// What the program says from now on.
    pub(crate) fn log(&self) -> Log {
        if self.by_systemd() { Log::journal(self.name) } else { Log::file(self.layout.log(self.name)) }
    }

    /// True once a program that was started as a process runs no more. systemd starts its units again.
    pub(crate) fn has_ended(&self) -> bool {
        !self.by_systemd() && self.layout.pid_file(self.name).exists() && self.running().is_none()
    }

    /// The pid of the running program, if it is the one the pid file was written for.
    pub(crate) fn running(&self) -> Option<i32> {
        daemon::process::running(&self.layout.pid_file(self.name), self.name)
    }

    /// Stops the program; it is killed if it does not stop in time.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        if self.by_systemd() && Path::new(&format!("/etc/systemd/system/{}.service", self.name)).exists() {
            run("systemctl", &["disable", "--now", self.name])?;
            std::fs::remove_file(format!("/etc/systemd/system/{}.service", self.name))?;
            run("systemctl", &["daemon-reload"])?;
            render::done(&format!("stopped and removed systemd unit {}", self.name));
        }
        let Some(pid) = self.running() else { return Ok(()) };
        let process = Pid::from_raw(pid).context("pid file holds 0")?;
        kill_process(process, Signal::TERM).with_context(|| format!("stopping {} (pid {pid})", self.name))?;
        let stopped = tokio::time::timeout(STOP_TIMEOUT, async {
            until_ended(pid).await;
        });
        if stopped.await.is_err() && self.running() == Some(pid) {
            kill_process(process, Signal::KILL)
                .with_context(|| format!("killing {} (pid {pid})", self.name))?;
            if tokio::time::timeout(STOP_TIMEOUT, until_ended(pid)).await.is_err() {
                bail!(
                    "{} (pid {pid}) was killed and does not end: see what it waits for in /proc/{pid}/stack",
                    self.name
                );
            }
        }
        let _ = std::fs::remove_file(self.layout.pid_file(self.name));
        render::done(&format!("stopped {} (pid {pid})", self.name));
        Ok(())
    }
}

/// The unit of a program that lies there. systemd does not start a unit that asks for a user namespace where there are none.
fn unit(name: &str, binary: &Path, has_user_namespaces: bool) -> String {
    let unit = UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, text)| *text).unwrap_or_default();
    let unit = unit.replace(&format!("/usr/local/bin/{name}"), &binary.to_string_lossy());
    match has_user_namespaces {
        true => unit,
        false => unit
            .replace("\nPrivateUsers=yes\n", "\n# PrivateUsers=yes: user namespaces are forbidden here.\n"),
    }
}

/// Hardened machines set user.max_user_namespaces to 0 (user_namespaces(7)).
fn has_user_namespaces(proc: &Path) -> bool {
    let most = std::fs::read_to_string(proc.join("sys/user/max_user_namespaces"));
    proc.join("self/ns/user").exists() && most.is_ok_and(|most| most.trim() != "0")
}

async fn until_ended(pid: i32) {
    while !daemon::process::has_ended(pid) {
        tokio::time::sleep(POLL).await;
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("running {program}"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
