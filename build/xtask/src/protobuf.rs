//! `cargo xtask protobuf FOLDER`: the data of `apimachinery::messages`, from Kubernetes' published messages.

mod gotypes;
mod protos;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::build;

#[derive(Args)]
pub(crate) struct Flags {
    /// The folder of Kubernetes' Go modules: `vendor` or `staging/src`, in which `k8s.io` is.
    folder: PathBuf,
    /// Where the folder is from: the release, for the notice beside the data.
    #[arg(long)]
    release: String,
}

const FOLDER: &str = "common/apimachinery/schemas";

/// What is read: the modules whose types are in the API.
const MODULES: [&str; 4] = [
    "k8s.io/api",
    "k8s.io/apimachinery/pkg",
    "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions",
    "k8s.io/kube-aggregator/pkg/apis/apiregistration",
];

/// One package of messages.
struct Package {
    /// `k8s.io.api.core.v1`
    name: String,
    /// Empty for the core group, and for packages that are no group.
    group: String,
    /// `v1`
    version: String,
    messages: Vec<protos::Message>,
    types: gotypes::Types,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut folders = Vec::new();
    for module in MODULES {
        search(&flags.folder.join(module), &mut folders)?;
    }
    ensure!(!folders.is_empty(), "{} has no generated.proto below k8s.io", flags.folder.display());
    folders.sort();
    let packages = folders.iter().map(|folder| package(folder)).collect::<Result<Vec<_>>>()?;
    let bytes = table::table(&packages)?;
    let folder = build::root().join(FOLDER);
    for (name, bytes) in [("messages.bin", bytes), ("NOTICE-messages", notice(&flags.release).into_bytes())] {
        let path = folder.join(name);
        println!("{}: {} bytes", path.display(), bytes.len());
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn notice(release: &str) -> String {
    format!(
        "messages.bin is made from the files generated.proto, and the tags of the Go types beside them, of k8s.io/api,\n\
         k8s.io/apimachinery, k8s.io/apiextensions-apiserver and k8s.io/kube-aggregator of Kubernetes {release}\n\
         (https://github.com/kubernetes/kubernetes), Copyright The Kubernetes Authors, Apache License 2.0.\n\
         It holds the numbers, names and types of the fields of kinds of stable versions and of what these refer to, and how\n\
         Go writes them (common/apimachinery/src/messages/format.rs says in which form). It is made by\n\
         `cargo run -p xtask -- protobuf FOLDER --release RELEASE`.\n"
    )
}

/// Folders with messages, from here down.
fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("reading the folder {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            search(&path, found)?;
        } else if path.ends_with("generated.proto") {
            found.push(folder.to_owned());
        }
    }
    Ok(())
}

fn package(folder: &Path) -> Result<Package> {
    let path = folder.join("generated.proto");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (name, messages) = protos::parse(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut types = gotypes::Types::default();
    let mut group = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_made = file.starts_with("zz_generated") || file == "generated.pb.go";
        if !file.ends_with(".go") || file.ends_with("_test.go") || is_made {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        types.add(&text).with_context(|| format!("reading {}", path.display()))?;
        group = group.or_else(|| gotypes::group(&text));
    }
    let version = name.rsplit('.').next().unwrap_or_default().to_owned();
    Ok(Package { name, group: group.unwrap_or_default(), version, messages, types })
}
