//! `cargo xtask chart`: the plain manifests and the Helm chart, as the crate `manifests` makes them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build;

#[derive(Args)]
pub(crate) struct Flags {
    /// Write manifests/cloudcore and manifests/charts/cloudcore anew.
    #[arg(long)]
    write: bool,
}

/// Folders below `manifests/` that hold nothing else.
const MADE: [&str; 2] = ["cloudcore", "charts/cloudcore"];

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let root = build::root().join("manifests");
    if flags.write {
        write(&root, &wanted())?;
    }
    check()
}

/// The files are there as they are made, and no others.
pub(crate) fn check() -> Result<()> {
    let (root, wanted) = (build::root().join("manifests"), wanted());
    let problems = faults(&root, &wanted)?;
    if !problems.is_empty() {
        bail!("not what common/manifests makes; run cargo xtask chart --write:\n  {}", problems.join("\n  "));
    }
    println!("chart: {} files, as they are made", wanted.len());
    Ok(())
}

fn wanted() -> BTreeMap<PathBuf, String> {
    manifests::files().into_iter().map(|file| (PathBuf::from(file.path), file.text)).collect()
}

fn faults(root: &Path, wanted: &BTreeMap<PathBuf, String>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (path, text) in wanted {
        match std::fs::read_to_string(root.join(path)) {
            Ok(found) if found == *text => {}
            Ok(_) => problems.push(format!("{}: another text", path.display())),
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
    }
    let strangers = strangers(root, wanted)?;
    problems.extend(strangers.iter().map(|path| format!("{}: nobody makes it", path.display())));
    Ok(problems)
}

fn write(root: &Path, wanted: &BTreeMap<PathBuf, String>) -> Result<()> {
    for path in strangers(root, wanted)? {
        let path = root.join(path);
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    for (path, text) in wanted {
        let path = root.join(path);
        let folder = path.parent().unwrap_or(root);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Files in the folders that are not made.
fn strangers(root: &Path, wanted: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = MADE.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if !wanted.contains_key(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_right_and_what_was_changed_or_added_is_told_and_mended() {
        let folder = tempfile::tempdir().unwrap();
        let (root, wanted) = (folder.path(), wanted());
        write(root, &wanted).unwrap();
        assert_eq!(faults(root, &wanted).unwrap(), Vec::<String>::new());
        std::fs::write(root.join("charts/cloudcore/values.yaml"), "cloudCore: {}\n").unwrap();
        std::fs::write(root.join("cloudcore/more.yaml"), "kind: Pod\n").unwrap();
        assert_eq!(faults(root, &wanted).unwrap().len(), 2);
        write(root, &wanted).unwrap();
        assert_eq!(faults(root, &wanted).unwrap(), Vec::<String>::new());
    }
}
