//! `docs/configuration.md`, made from the types of the configuration files: names, types and texts from their source,
//! defaults from the types themselves, KubeEdge's keys and defaults from files that KubeEdge writes.
//!
//! The page is checked here; with `CAUSEWAY_WRITE_DOCS` set (`cargo xtask docs --write`) it is written instead.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "reference/keys.rs"]
mod keys;
#[path = "reference/page.rs"]
mod page;
#[path = "reference/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use api::config::cloudcore::CloudCoreConfig;
use api::config::edgecore::EdgeCoreConfig;
use api::config::keys::{CLOUDCORE, EDGECORE};
use serde_json::Value;

use keys::Key;
use source::Structs;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file of KubeEdge, as the programs' own tests read it.
fn kubeedge(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

fn cloudcore() -> Vec<Key> {
    let structs = Structs::parse(&[&read("common/api/src/config/cloudcore.rs")]);
    let defaults = serde_json::to_value(CloudCoreConfig::default()).unwrap();
    let theirs = kubeedge("cloudcore/src/settings/fixtures/kubeedge-1.23.yaml");
    keys::all(&structs, "CloudCoreConfig", &defaults, &[theirs])
}

fn edgecore() -> Vec<Key> {
    let files = [
        "common/api/src/config/edgecore.rs",
        "common/api/src/config/edgecore/kubelet.rs",
        "common/api/src/config/edgecore/meta_server.rs",
    ]
    .map(read);
    let structs = Structs::parse(&files.each_ref().map(String::as_str));
    let defaults = serde_json::to_value(EdgeCoreConfig::default()).unwrap();
    let theirs = ["1.23", "1.13"]
        .map(|version| kubeedge(&format!("edgecore/edgesettings/src/fixtures/kubeedge-{version}.yaml")));
    keys::all(&structs, "EdgeCoreConfig", &defaults, &theirs)
}

#[test]
fn the_configuration_reference_is_that_of_the_types() {
    let files = [
        ("cloudcore.yaml", "cloudcore", cloudcore(), CLOUDCORE),
        ("edgecore.yaml", "edgecore", edgecore(), EDGECORE),
    ];
    let made = page::render(&files);
    let path = root().join("docs/configuration.md");
    if std::env::var_os("CAUSEWAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(stored.lines()).find(|(made, stored)| made != stored);
    assert!(
        made == stored,
        "docs/configuration.md is not what the types say (first difference: {differs:?}); run cargo xtask docs --write"
    );
}

#[test]
fn every_key_says_what_it_means() {
    for key in cloudcore().iter().chain(&edgecore()) {
        assert!(!key.meaning.is_empty(), "{} has no doc comment", key.path);
    }
}

#[test]
fn the_reference_tells_what_kubeedge_has() {
    let edge = edgecore();
    let find = |path: &str| edge.iter().find(|key| key.path == path).unwrap();
    assert_eq!(find("modules.edgeHub.heartbeat").kubeedge, "same");
    assert_eq!(find("modules.eventBus.mqttMode").kubeedge, "`2`");
    assert_eq!(find("modules.edgeHub.dialect").kubeedge, "no");
    assert_eq!(find("modules.edgeHub.websocket.server").kubeedge, "yes");
    assert_eq!(find("modules.edged.remoteRuntimeEndpoint").kubeedge, "older");
    assert_eq!(find("modules.edged.registerWithTaints[].key").kubeedge, "older");
    let kubelet = "modules.edged.tailoredKubeletConfig";
    assert_eq!(find(&format!("{kubelet}.evictionPressureTransitionPeriod")).kubeedge, "same");
    assert_eq!(find(&format!("{kubelet}.authentication.x509.clientCAFile")).kubeedge, "kubelet");
    assert_eq!(find(&format!("{kubelet}.registerWithTaints[].effect")).kind, "string");
}
