//! Processes this harness started, and those whose pid files it owns.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daemon::process::has_ended;
pub use daemon::process::running;
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A child with its output in a file; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    pub log: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, name: &str, log: &Path) -> Result<Process> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("opening {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Errors if the process has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; see {}", self.name, self.log.display());
        }
        Ok(())
    }

    pub fn kill9(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) -> Result<()> {
        self.ask_to_stop(wait::PATIENCE)
    }

    fn ask_to_stop(&mut self, deadline: Duration) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        wait::for_true(&format!("end of {}", self.name), deadline, || Ok(self.child.try_wait()?.is_some()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ask_to_stop(Duration::from_secs(5)).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Signals the process of a pid file and waits until it has closed its files and ports.
pub fn signal(file: &Path, name: &str, signal: Signal) -> Result<()> {
    let Some(pid) = running(file, name) else { return Ok(()) };
    let process = Pid::from_raw(pid).context("pid 0")?;
    kill_process(process, signal).with_context(|| format!("signalling {name} (pid {pid})"))?;
    wait::for_true(&format!("end of {name}"), Duration::from_secs(15), || Ok(has_ended(pid)))
}
