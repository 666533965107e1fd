//! The table of pods (`tests/e2e/pods`), one site per theme.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use e2e::pods::peers::Peers;
use e2e::{pods, skip};
use harness::ports;

/// What the table has to prove at least.
const LEAST_ROWS: usize = 60;
/// Themes that have a test below.
const THEMES: [&str; 3] = ["lifecycle", "linux", "volumes"];

#[test]
fn every_row_can_be_read_and_belongs_to_a_test() -> Result<()> {
    let themes = pods::themes()?;
    let names: Vec<&str> = themes.iter().map(|(theme, _)| theme.as_str()).collect();
    assert_eq!(names, THEMES);
    let rows = pods::rows()?;
    assert!(rows.len() >= LEAST_ROWS, "{} rows are fewer than {LEAST_ROWS}", rows.len());
    let mut seen = BTreeSet::new();
    for row in &rows {
        for object in row.all() {
            let named = format!("{} {}", object["kind"], object["metadata"]["name"]);
            assert!(seen.insert(named.clone()), "{}: there is another {named}", row.name);
        }
    }
    Ok(())
}

#[test]
fn pods_start_restart_and_end_as_kubernetes_says() -> Result<()> {
    run("lifecycle", &[])
}

#[test]
fn pods_see_the_volumes_and_variables_kubernetes_promises() -> Result<()> {
    run("volumes", &[])
}

/// The node's resolv.conf of the rows about names.
const RESOLV: &str = "nameserver 192.0.2.53\nsearch edge.example\noptions timeout:3\n";

#[test]
fn pods_run_with_the_rights_limits_and_names_kubernetes_gives_them() -> Result<()> {
    let mut resolv = tempfile::NamedTempFile::new()?;
    resolv.write_all(RESOLV.as_bytes())?;
    let resolv = format!("{KUBELET}.resolvConf={}", resolv.path().display());
    run("linux", &[&resolv, &format!("{KUBELET}.clusterDNS=[\"169.254.96.16\"]")])
}

const KUBELET: &str = "modules.edged.tailoredKubeletConfig";

fn run(theme: &str, settings: &[&str]) -> Result<()> {
    if skip::without_containers() || skip::beside_a_cluster("pods that Kubernetes refuses") {
        return Ok(());
    }
    let (first, second) = (ports::free()?, ports::free()?);
    let peers = Peers::start()?;
    let ports =
        [("host-port", first), ("host-port-taken", second), ("plain", peers.plain), ("tls", peers.tls)];
    pods::run(theme, settings, &ports)
}
