//! `cargo xtask docs`: checks that what the text refers to exists: sections of `docs/protocol` that the code cites, and
//! files and headings that Markdown pages link to.

mod citations;
mod files;
mod headings;
mod links;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build;

#[derive(Args)]
pub(crate) struct Flags {
    /// Write docs/configuration.md anew from the types in common/api/src/config.
    #[arg(long)]
    write: bool,
}

/// Kinds of files in which sections are cited.
const CITING: &[&str] = &["rs", "proto", "yaml", "md"];

pub(crate) fn run(flags: &Flags) -> Result<()> {
    if flags.write {
        write()?;
    }
    check()
}

/// The generator is a test of the crate whose types it reads, so that no program has to carry it.
fn write() -> Result<()> {
    build::cargo_with(
        &["test", "--quiet", "-p", "api", "--test", "reference"],
        &[("CAUSEWAY_WRITE_DOCS", "1")],
    )
}

/// What the text refers to exists.
pub(crate) fn check() -> Result<()> {
    let root = build::root();
    let files = files::all(&root).context("listing the repository's files")?;
    let mut problems = Vec::new();
    let (mut cited, mut linked) = (0, 0);
    for file in &files {
        let kind = file.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        if !CITING.contains(&kind) {
            continue;
        }
        let text = files::read(&root, file)?;
        let name = file.display();
        for (line, citation) in citations::find(&text) {
            cited += 1;
            let faults = citations::faults(&citation, |page| files::read(&root, page).ok());
            problems.extend(faults.into_iter().map(|fault| format!("{name}:{line}: {fault}")));
        }
        let strays = citations::strays(&text);
        problems.extend(strays.map(|line| {
            format!("{name}:{line}: cites a page that is not here; its facts are in docs/protocol, under the same number")
        }));
        if kind == "md" {
            for (line, target) in links::find(&text) {
                linked += 1;
                let fault = links::fault(file, &target, &files, |page| files::read(&root, page).ok());
                problems.extend(fault.map(|fault| format!("{name}:{line}: {fault}")));
            }
        }
    }
    if !problems.is_empty() {
        bail!("references that lead nowhere:\n  {}", problems.join("\n  "));
    }
    println!("references: {cited} citations and {linked} links, all lead somewhere");
    Ok(())
}
