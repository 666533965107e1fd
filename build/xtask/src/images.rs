//! `cargo xtask images`: container images as files, without a daemon: each program alone, statically linked.

mod layout;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use layout::Image;

use crate::build;

#[derive(Args)]
pub(crate) struct Flags {
    /// Programs to make images of.
    #[arg(default_value = "cloudcore", value_parser = ["cloudcore", "edgecore"])]
    programs: Vec<String>,
    /// Folder of the images, NAME.oci.tar each; default: images in the target folder.
    #[arg(long)]
    to: Option<PathBuf>,
    /// Registry and folder in the images' names.
    #[arg(long, default_value = "causeway")]
    repository: String,
    /// Profile the programs are built with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take the programs of this folder instead of building them; they must be linked statically.
    #[arg(long)]
    from: Option<PathBuf>,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let folder = match &flags.from {
        Some(folder) => folder.clone(),
        None => built(flags)?,
    };
    let images = flags.to.clone().unwrap_or_else(|| build::target().join("images"));
    std::fs::create_dir_all(&images).with_context(|| format!("creating {}", images.display()))?;
    let commit = commit();
    for name in &flags.programs {
        let binary = folder.join(name);
        let program = std::fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;
        if needs_a_loader(&program) {
            bail!(
                "{} needs shared libraries, which an image of it alone has not: build it with -C target-feature=+crt-static",
                binary.display()
            );
        }
        let image = Image {
            name,
            reference: format!("{}/{name}:{}", flags.repository, env!("CARGO_PKG_VERSION")),
            version: env!("CARGO_PKG_VERSION"),
            revision: &commit,
            architecture: architecture(),
            program: &program,
        };
        let to = images.join(format!("{name}.oci.tar"));
        let tar = image.tar().with_context(|| format!("making the image of {name}"))?;
        std::fs::write(&to, &tar).with_context(|| format!("writing {}", to.display()))?;
        println!("  {}  {} ({} KiB)", to.display(), image.reference, tar.len() / 1024);
    }
    println!("\nNext, one of:");
    println!("  skopeo copy oci-archive:FILE docker://REGISTRY/NAME:TAG");
    println!("  ctr --namespace k8s.io images import FILE     # on each node of a test cluster");
    Ok(())
}

/// Builds the programs so that they need nothing but the kernel; gives their folder.
fn built(flags: &Flags) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // With a target of its own, build scripts and macros are not built statically, which they cannot be.
    let mut arguments = vec!["build", "--quiet", "--profile", &flags.profile, "--target", &target];
    arguments.extend(flags.programs.iter().flat_map(|name| ["-p", name.as_str()]));
    println!("building the programs, linked statically (the first time takes minutes)");
    build::cargo_with(&arguments, &[("RUSTFLAGS", "-C target-feature=+crt-static")])?;
    let profile = if flags.profile == "dev" { "debug" } else { &flags.profile };
    Ok(build::target().join(target).join(profile))
}

/// What is built from: the commit, or nothing where there is none.
fn commit() -> String {
    let shown =
        std::process::Command::new("git").args(["rev-parse", "HEAD"]).current_dir(build::root()).output();
    let text = shown.ok().filter(|shown| shown.status.success()).map(|shown| shown.stdout);
    text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default().trim().to_owned()
}

/// As OCI calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// True for an ELF program that names an interpreter (a PT_INTERP segment).
fn needs_a_loader(program: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let is_64 = program.get(4) == Some(&2);
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = program.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    // Offsets of e_phoff, e_phentsize and e_phnum in the headers of both widths, little-endian.
    let (table, size, count) = if is_64 { ((32, 8), 54, 56) } else { ((28, 4), 42, 44) };
    let segments = || -> Option<Vec<u64>> {
        let (table, size, count) = (number(table.0, table.1)?, number(size, 2)?, number(count, 2)?);
        let at = |index: u64| usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok();
        (0..count).map(|index| number(at(index)?, 4)).collect()
    };
    program.starts_with(b"\x7fELF") && segments().is_some_and(|kinds| kinds.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_shared_libraries_is_told_from_one_that_does_not() {
        // This test itself is linked dynamically, as everything that is built for a test is.
        let own = std::env::current_exe().unwrap();
        assert!(needs_a_loader(&std::fs::read(own).unwrap()));
        assert!(!needs_a_loader(b"\x7fELF") && !needs_a_loader(b"#!/bin/sh\n") && !needs_a_loader(b""));
    }
}
