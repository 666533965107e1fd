//! Crates: arrows point down only (ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::path::PathBuf;
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
    ("manifests", 0),
    ("pki", 1),
    ("store", 1),
    ("daemon", 1),
    ("listener", 1),
    ("cri", 1),
    ("dmi", 1),
    ("plugins", 1),
    ("mqtt", 1),
    ("link", 1),
    ("httpproxy", 1),
    ("streams", 1),
    ("tunnel", 1),
    ("kubeapi", 1),
    ("metamanager", 2),
    ("kubeletproxy", 2),
    ("podmodel", 2),
    ("controllers", 2),
    ("scheduler", 2),
    ("celrules", 2),
    ("apiserver", 2),
    ("mapper-sdk", 2),
    ("keadm", 2),
    ("cloudcore", 3),
    ("metaserver", 3),
    ("edgehub", 3),
    ("edgestream", 3),
    ("volumes", 3),
    ("nodebase", 3),
    ("devices", 3),
    ("images", 4),
    ("nodestatus", 4),
    ("deviceplugins", 4),
    ("probes", 4),
    ("nodeapi", 4),
    ("edgesettings", 5),
    ("edged", 5),
    ("edgecore", 6),
    ("mapper-virtual", 3),
    ("harness", 3),
    ("clients", 5),
    ("interop", 3),
    ("simulation", 6),
    ("load", 6),
    ("noise", 6),
    ("conformance", 6),
    ("e2e", 6),
    ("xtask", 6),
];

/// Imports within a floor.
const BESIDE: &[(&str, &str)] = &[
    ("apimachinery", "api"),
    ("manifests", "api"),
    ("message", "apimachinery"),
    ("native", "message"),
    ("link", "pki"),
    ("link", "daemon"),
    ("daemon", "listener"),
    ("dmi", "listener"),
    ("mqtt", "listener"),
    ("mqtt", "daemon"),
    ("httpproxy", "daemon"),
    ("httpproxy", "pki"),
    ("tunnel", "daemon"),
    ("scheduler", "controllers"),
    ("apiserver", "controllers"),
    ("apiserver", "scheduler"),
    ("apiserver", "celrules"),
    ("tunnel", "httpproxy"),
    ("kubeapi", "daemon"),
    ("kubeapi", "listener"),
    ("kubeapi", "pki"),
    ("nodebase", "volumes"),
    ("deviceplugins", "nodestatus"),
];

/// Crates that must stay pure: none of these below them.
const IMPURE: &[&str] = &["tokio", "hyper", "rusqlite", "tonic", "kube"];

/// Only these may use the Kubernetes client.
const KUBE_USERS: &[&str] = &["cloudcore", "keadm", "harness", "clients", "e2e", "load"];

/// A crate of the workspace.
pub(super) struct Package {
    pub name: String,
    /// The file of its root, below that of the workspace.
    pub source: PathBuf,
    /// Names of what it depends on, and whether only its tests do.
    dependencies: Vec<(String, bool)>,
}

/// All crates of the workspace.
pub(super) fn packages() -> Result<Vec<Package>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(build::root())
        .output()
        .context("running cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    Ok(metadata["packages"].as_array().into_iter().flatten().map(package).collect())
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let targets: Vec<&Value> = package["targets"].as_array().into_iter().flatten().collect();
    let is = |kind: &str| targets.iter().find(|target| target["kind"][0] == kind);
    let root = is("lib").or_else(|| is("bin")).map(|target| text(&target["src_path"])).unwrap_or_default();
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    Package {
        name: text(&package["name"]).replace('-', "_"),
        source: PathBuf::from(root),
        dependencies: dependencies
            .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
            .collect(),
    }
}

/// Checks that arrows point down. Returns the number of crates.
pub(super) fn check(packages: &[Package]) -> Result<usize> {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut problems = Vec::new();
    for package in packages {
        let name = package.name.replace('_', "-");
        let Some(floor) = floors.get(name.as_str()) else {
            problems.push(format!("{name} has no floor; add it to build/xtask/src/deps/crates.rs"));
            continue;
        };
        for (wanted, development) in &package.dependencies {
            problems.extend(problem(&name, *floor, wanted, *development, &floors));
        }
    }
    if !problems.is_empty() {
        bail!("imports that point up or sideways:\n  {}", problems.join("\n  "));
    }
    Ok(floors.len())
}

fn problem(
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
