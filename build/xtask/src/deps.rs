//! Who imports whom: arrows point down only (ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::build;

/// Floor of each crate. A crate imports lower floors, and of its own only what `BESIDE` lists.
const FLOORS: &[(&str, u8)] = &[
    ("message", 0),
    ("native", 0),
    ("api", 0),
    ("apimachinery", 0),
    ("pki", 1),
    ("store", 1),
    ("daemon", 1),
    ("listener", 1),
    ("cri", 1),
    ("dmi", 1),
    ("plugins", 1),
    ("mqtt", 1),
    ("link", 1),
    ("cloudcore", 2),
    ("edgecore", 2),
    ("apiserver", 2),
    ("mapper-sdk", 2),
    ("keadm", 2),
    ("mapper-virtual", 3),
    ("harness", 3),
    ("interop", 3),
    ("simulation", 3),
    ("load", 4),
    ("noise", 3),
    ("e2e", 4),
    ("xtask", 4),
];

/// Imports within a floor.
const BESIDE: &[(&str, &str)] = &[
    ("apimachinery", "api"),
    ("native", "message"),
    ("link", "pki"),
    ("link", "daemon"),
    ("daemon", "listener"),
    ("dmi", "listener"),
    ("mqtt", "listener"),
    ("cloudcore", "apiserver"),
];

/// Crates that must stay pure: none of these below them.
const IMPURE: &[&str] = &["tokio", "hyper", "rusqlite", "tonic", "kube"];

/// Only these may use the Kubernetes client.
const KUBE_USERS: &[&str] = &["cloudcore", "keadm", "harness", "e2e", "load"];

pub fn run() -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(build::root())
        .output()
        .context("running cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(floor) = floors.get(name) else {
            problems.push(format!("{name} has no floor; add it to build/xtask/src/deps.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let wanted = dependency["name"].as_str().unwrap_or_default();
            let development = dependency["kind"] == "dev";
            problems.extend(check(name, *floor, wanted, development, &floors));
        }
    }
    if !problems.is_empty() {
        bail!("imports that point up or sideways:\n  {}", problems.join("\n  "));
    }
    println!("imports: {} crates, all arrows point down", floors.len());
    Ok(())
}

fn check(
    name: &str,
    floor: u8,
    wanted: &str,
    development: bool,
    floors: &BTreeMap<&str, u8>,
) -> Option<String> {
    if development {
        return None;
    }
    if floor == 0 && IMPURE.contains(&wanted) {
        return Some(format!("{name} is pure and may not use {wanted}"));
    }
    if wanted == "kube" && !KUBE_USERS.contains(&name) {
        return Some(format!("{name} may not use the Kubernetes client"));
    }
    let below = *floors.get(wanted)?;
    (below >= floor && !BESIDE.contains(&(name, wanted))).then(|| format!("{name} imports {wanted}"))
}
