//! A memory cgroup (v1 or v2) a program is started in: what it may hold, what it held at most, whether the kernel killed
//! it. Needs root.

pub(crate) mod aside;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

/// Gone when dropped; its processes must have ended.
pub(crate) struct Cgroup {
    folder: PathBuf,
    v1: bool,
    aside: bool,
}

/// Enters a cgroup and becomes the program.
#[derive(Args, Clone)]
pub(crate) struct Flags {
    #[arg(long)]
    cgroup: PathBuf,
    program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Only returns if the program could not be started.
pub(crate) fn enter(flags: &Flags) -> Result<()> {
    std::fs::write(flags.cgroup.join("cgroup.procs"), std::process::id().to_string())
        .with_context(|| format!("entering {}", flags.cgroup.display()))?;
    let error = Command::new(&flags.program).args(&flags.arguments).exec();
    Err(error).with_context(|| format!("starting {}", flags.program.display()))
}

impl Cgroup {
    /// At most `limit` bytes, page cache and kernel memory included.
    pub(crate) fn make(name: &str, limit: u64) -> Result<Cgroup> {
        let v1 = Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists();
        let root = if v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let folder = Path::new(root).join(format!("causeway-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("making memory cgroup {} (needs root)", folder.display()))?;
        let cgroup = Cgroup { folder, v1, aside: false };
        if !v1 {
            // Children get the controller only where it is handed down.
            let _ = std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        }
        let file = cgroup.folder.join(if v1 { "memory.limit_in_bytes" } else { "memory.max" });
        std::fs::write(&file, limit.to_string()).with_context(|| format!("writing {}", file.display()))?;
        Ok(cgroup)
    }

    /// Programs in it stand for another machine.
    pub(crate) fn aside(mut self) -> Cgroup {
        self.aside = true;
        self
    }

    /// A command whose process lives in this group from its first page on.
    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        let this = std::env::current_exe()?;
        let mut command = Command::new(&this);
        if self.aside {
            command = aside::command()?;
            command.arg(&this);
        }
        command.arg("confined").arg("--cgroup").arg(&self.folder).arg(program);
        Ok(command)
    }

    /// Most memory charged to the group so far, in KiB.
    pub(crate) fn peak_kb(&self) -> Result<u64> {
        let file = if self.v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        Ok(self.read(file)?.trim().parse::<u64>()? / 1024)
    }

    /// Forgets the peak so far, where the kernel allows it.
    pub(crate) fn reset_peak(&self) {
        let file = if self.v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let _ = std::fs::write(self.folder.join(file), "0");
    }

    /// Processes the kernel killed for want of memory.
    pub(crate) fn killed(&self) -> Result<u64> {
        let text = self.read(if self.v1 { "memory.oom_control" } else { "memory.events" })?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.context("no oom_kill in the cgroup's events")?.trim().parse()?)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let gone = || Ok(std::fs::remove_dir(&self.folder).is_ok());
        let _ = harness::wait::for_true("an empty cgroup", std::time::Duration::from_secs(5), gone);
    }
}
