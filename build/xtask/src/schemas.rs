//! `cargo xtask schemas DOCUMENT`: the data of `apimachinery::schemas`, from Kubernetes' OpenAPI document.

pub(crate) mod strings;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use apimachinery::schemas::definitions::{DESCRIPTION, references};
use clap::Args;
use serde_json::{Map, Value};

use crate::build;

#[derive(Args)]
pub(crate) struct Flags {
    /// Kubernetes' `api/openapi-spec/swagger.json`.
    document: PathBuf,
    /// Where the document is from: the release, for the notice beside the data.
    #[arg(long)]
    release: String,
}

const FOLDER: &str = "common/apimachinery/schemas";

/// Kinds that have no stable version of a group of their own but are asked for everywhere.
const SHARED: [&str; 4] = ["Status", "DeleteOptions", "WatchEvent", "APIResourceList"];

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let text =
        std::fs::read(&flags.document).with_context(|| format!("reading {}", flags.document.display()))?;
    let document: Value = serde_json::from_slice(&text).context("the document is not JSON")?;
    let all = document["definitions"].as_object().context("the document has no definitions")?;
    let chosen = choose(all);
    let (definitions, descriptions) = apart(&chosen);
    let folder = build::root().join(FOLDER);
    let table = types::table(&chosen)?;
    for (name, bytes) in [
        ("types.bin", table),
        ("definitions.deflate", packed(definitions.to_string().as_bytes())?),
        ("descriptions.deflate", packed(descriptions.as_bytes())?),
        ("NOTICE", notice(&flags.release).into_bytes()),
    ] {
        let path = folder.join(name);
        println!("{}: {} bytes", path.display(), bytes.len());
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn notice(release: &str) -> String {
    format!(
        "The files of this folder are made from api/openapi-spec/swagger.json of Kubernetes {release}\n\
         (https://github.com/kubernetes/kubernetes), Copyright The Kubernetes Authors, Apache License 2.0.\n\
         They are reduced to the kinds of stable versions and what these refer to, by\n\
         `cargo run -p xtask -- schemas FILE --release RELEASE`:\n\n\
         types.bin             fields and their types (common/apimachinery/src/schemas/format.rs says how)\n\
         definitions.deflate   the definitions; descriptions are numbers\n\
         descriptions.deflate  the descriptions\n"
    )
}

/// (group, version, kind) that a definition says it is.
fn kinds(schema: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    let list = schema["x-kubernetes-group-version-kind"].as_array();
    list.into_iter().flatten().filter_map(|entry| {
        Some((entry["group"].as_str()?, entry["version"].as_str()?, entry["kind"].as_str()?))
    })
}

pub(crate) fn is_stable(version: &str) -> bool {
    version.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The definitions of kinds of stable versions, and what they refer to.
fn choose(all: &Map<String, Value>) -> BTreeMap<String, Value> {
    let wanted = |schema: &Value| {
        kinds(schema).any(|(group, version, kind)| {
            is_stable(version) && (!SHARED.contains(&kind) || (group.is_empty() && version == "v1"))
        })
    };
    let mut open: Vec<String> =
        all.iter().filter(|(_, schema)| wanted(schema)).map(|(name, _)| name.clone()).collect();
    let mut names = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(schema) = all.get(&name)
            && names.insert(name)
        {
            references(schema, &mut |reference| open.push(reference.to_owned()));
        }
    }
    names.into_iter().map(|name| (name.clone(), all[&name].clone())).collect()
}

/// The definitions with numbers for descriptions, and the descriptions, each ended by a zero byte.
fn apart(chosen: &BTreeMap<String, Value>) -> (Value, String) {
    let mut texts = strings::Strings::default();
    let definitions: Map<String, Value> = chosen
        .iter()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            number(&mut schema, &mut texts);
            (name.clone(), schema)
        })
        .collect();
    (Value::Object(definitions), texts.all().iter().map(|text| format!("{text}\0")).collect())
}

fn number(schema: &mut Value, texts: &mut strings::Strings) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == DESCRIPTION) {
                    Some(text) => *value = Value::from(texts.index(text)),
                    None => number(value, texts),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| number(item, texts)),
        _ => {}
    }
}

fn packed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
