//! CloudCore dies in the middle of a burst of changes: the edge ends with the newest of each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::given;
use harness::programs::{self, Programs};
use harness::site::{NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::{Value, json};

const CONFIG_MAPS: usize = 500;
const ROUNDS: usize = 2;
/// Each kubectl waits after its first 300 requests, and needs two for an object: so many share a round.
const KUBECTLS: usize = 4;

const KUBEEDGE: &[&str] = &["modules.edgeHub.dialect=kubeedge"];
const NATIVE: &[&str] = &["modules.edgeHub.dialect=auto"];
/// The harness fills in the server.
const QUIC: &[&str] = &["modules.edgeHub.quic.enable=true", "modules.edgeHub.websocket.enable=false"];

#[test]
fn a_kill_of_cloudcore_during_500_config_map_updates_loses_and_reverts_nothing() -> Result<()> {
    kill_during_updates(NATIVE)
}

#[test]
fn nor_does_it_over_quic() -> Result<()> {
    kill_during_updates(QUIC)
}

#[test]
fn nor_does_it_in_kubeedges_dialect() -> Result<()> {
    kill_during_updates(KUBEEDGE)
}

fn kill_during_updates(dialect: &[&str]) -> Result<()> {
    let site = start(dialect)?;
    // A pod that refers to all of them; no runtime is needed to hold its objects.
    update(&site, 0)?.succeed()?;
    site.kubectl().apply(&pod())?;
    wait::for_true("the edge has the first version of each", PATIENCE, || {
        Ok(stored(&site)?.values().filter(|(_, text)| text == "round 0").count() == CONFIG_MAPS)
    })?;
    let mut seen = stored(&site)?;

    for round in 1..=ROUNDS {
        let updating = update(&site, round)?;
        // Somewhere in the middle of the burst.
        wait::for_true("part of the round is at the edge", PATIENCE, || {
            watch(&site, &mut seen)?;
            Ok(seen.values().filter(|(_, text)| *text == format!("round {round}")).count()
                >= CONFIG_MAPS / 10)
        })?;
        site.cloud.kill9()?;
        updating.end()?;
        site.cloud.start()?;
        // What the killed server did not take is applied again, as an operator would.
        update(&site, round)?.succeed()?;
        wait::for_true("the edge has the newest version of each", PATIENCE, || {
            watch(&site, &mut seen)?;
            Ok(seen.values().filter(|(_, text)| *text == format!("round {round}")).count() == CONFIG_MAPS)
        })?;
    }
    let newest = versions_of_the_api(&site)?;
    assert_eq!(newest.len(), CONFIG_MAPS);
    for (name, (version, _)) in stored(&site)? {
        assert_eq!(Some(&version), newest.get(&name), "{name}");
    }
    Ok(())
}

/// Name -> (version, data) of the config maps in the edge's database.
type Stored = BTreeMap<String, (u64, String)>;

fn stored(site: &Site) -> Result<Stored> {
    let db = rusqlite::Connection::open_with_flags(
        site.edge.database(),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )?;
    let mut statement = db.prepare("SELECT value FROM meta WHERE type = 'configmap'")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut found = Stored::new();
    for row in rows {
        let object: Value = serde_json::from_str(&row?)?;
        let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
        if name.starts_with("load-") {
            let version = object["metadata"]["resourceVersion"].as_str().context("a version")?.parse()?;
            found.insert(name, (version, object["data"]["text"].as_str().unwrap_or_default().to_owned()));
        }
    }
    Ok(found)
}

/// Reads again, and checks that nothing went back since the last look.
fn watch(site: &Site, seen: &mut Stored) -> Result<()> {
    for (name, (version, text)) in stored(site)? {
        let before = seen.insert(name.clone(), (version, text)).map_or(0, |(before, _)| before);
        assert!(version >= before, "{name} went from version {before} back to {version}");
    }
    Ok(())
}

fn versions_of_the_api(site: &Site) -> Result<BTreeMap<String, u64>> {
    let text = site.kubectl().run(&["get", "configmaps", "-o", "json"])?;
    let list: Value = serde_json::from_str(&text)?;
    let mut versions = BTreeMap::new();
    for item in list["items"].as_array().context("items")? {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        if name.starts_with("load-") {
            let version = item["metadata"]["resourceVersion"].as_str().context("a version")?.parse()?;
            versions.insert(name.to_owned(), version);
        }
    }
    Ok(versions)
}

fn name(number: usize) -> String {
    format!("load-{number:03}")
}

fn manifests(round: usize, numbers: Range<usize>) -> String {
    let items: Vec<Value> = numbers
        .map(|number| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(number), "namespace": "default"},
                "data": {"text": format!("round {round}")},
            })
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn pod() -> String {
    let sources: Vec<Value> = (0..CONFIG_MAPS)
        .map(|number| json!({"configMap": {"name": name(number), "items": [{"key": "text", "path": name(number)}]}}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader", "namespace": "default"},
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "c", "image": "none", "volumeMounts": [{"name": "all", "mountPath": "/all"}]}],
            "volumes": [{"name": "all", "projected": {"sources": sources}}],
        },
    })
    .to_string()
}

/// kubectls that apply a round.
struct Updating {
    children: Vec<Child>,
}

fn update(site: &Site, round: usize) -> Result<Updating> {
    let each = CONFIG_MAPS / KUBECTLS;
    let start = |part: usize| {
        let file = site.folder().join(format!("round-{round}-{part}.json"));
        std::fs::write(&file, manifests(round, part * each..(part + 1) * each))?;
        let mut command: Command = site.kubectl().command(&["apply", "-f"]);
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("running kubectl")
    };
    Ok(Updating { children: (0..KUBECTLS).map(start).collect::<Result<_>>()? })
}

impl Updating {
    /// Waits for their end, and gives what those that failed said.
    fn end(self) -> Result<Vec<String>> {
        let mut failures = Vec::new();
        for child in self.children {
            let output = child.wait_with_output()?;
            if !output.status.success() {
                failures.push(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        Ok(failures)
    }

    fn succeed(self) -> Result<()> {
        let failures = self.end()?;
        ensure!(failures.is_empty(), "kubectl apply: {failures:?}");
        Ok(())
    }
}

#[test]
fn deletions_missed_while_cut_off_are_caught_up_even_over_a_restart_of_cloudcore() -> Result<()> {
    missed_deletions(NATIVE)
}

#[test]
fn object_syncs_do_the_same_for_edges_in_kubeedges_dialect() -> Result<()> {
    missed_deletions(KUBEEDGE)
}

fn start(dialect: &[&str]) -> Result<Site> {
    let site = Site::start_with(&Programs::find()?, false, dialect, |_| {})?;
    if given::kubeconfig().is_some() {
        // A node without pods makes no object of itself, and a cluster removes pods of nodes that have none.
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        site.kubectl().create(&node.to_string())?;
        let left = ["delete", "configmap", "load-keep", "load-drop", "--ignore-not-found"];
        site.kubectl().run(&left)?;
    }
    Ok(site)
}

fn missed_deletions(dialect: &[&str]) -> Result<()> {
    let site = start(dialect)?;
    let config_map = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})
            .to_string()
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader", "namespace": "default"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none",
            "envFrom": [{"configMapRef": {"name": "load-keep"}}, {"configMapRef": {"name": "load-drop"}}]}]},
    });
    for manifest in [config_map("load-keep"), config_map("load-drop"), pod.to_string()] {
        site.kubectl().apply(&manifest)?;
    }
    wait::for_true("both at the edge", PATIENCE, || Ok(stored(&site)?.len() == 2))?;
    if dialect == KUBEEDGE {
        wait::for_true("the acknowledgement is recorded", PATIENCE, || {
            Ok(site.kubectl().run(&["get", "objectsyncs", "-o", "name"])?.lines().count() >= 3)
        })?;
    }
    site.relay.cut();
    site.kubectl().run(&["delete", "configmap", "load-drop"])?;
    site.cloud.kill9()?;
    site.cloud.start()?;
    site.relay.heal();
    wait::for_true("the deleted one is gone at the edge", PATIENCE, || {
        Ok(stored(&site)?.keys().map(String::as_str).eq(["load-keep"]))
    })?;
    let left = programs::run(site.kubectl().command(&["get", "pods", "reader", "-o", "name"]))?;
    assert_eq!(left.trim(), "pod/reader");
    Ok(())
}
