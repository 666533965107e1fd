//! `cargo xtask install`: the programs as release builds in a folder of the PATH.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::build;

#[derive(Args)]
pub(crate) struct Flags {
    /// Where the programs go.
    #[arg(long, default_value = "/usr/local/bin")]
    to: PathBuf,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    println!("building release binaries (the first time takes minutes)");
    let programs = build::installed()?;
    std::fs::create_dir_all(&flags.to).with_context(|| format!("creating {}", flags.to.display()))?;
    for name in build::PROGRAMS {
        let (from, to) = (programs.path(name), flags.to.join(name));
        // Beside, then renamed: a program that runs cannot be written over.
        let beside = flags.to.join(format!(".{name}.new"));
        std::fs::copy(&from, &beside)
            .and_then(|_| std::fs::rename(&beside, &to))
            .with_context(|| format!("installing {} as {}", from.display(), to.display()))?;
        println!("  {}", to.display());
    }
    println!("\nNext, on the machine of the cloud: keadm init --standalone --advertise-address ADDRESS");
    println!(
        "and on each edge, which needs a container runtime (containerd, CRI-O) and CNI plugins: keadm join --help"
    );
    Ok(())
}
