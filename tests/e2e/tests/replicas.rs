//! Two CloudCores on one cluster behind a balancer: either may die.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::peer;
use harness::balancer::Balancer;
use harness::edge::{Doors, Edge};
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::replica::{ApiServer, Replica};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::json;
use tempfile::TempDir;

/// Two seconds are the aim; machines of tests are slow and busy.
const TAKEOVER: Duration = Duration::from_secs(20);
const NODES: [&str; 2] = ["edge-a", "edge-b"];
/// What each of them stores: its pod, and the config map that names. Either may come first.
const OBJECTS: usize = 2;

/// Parts stop in the order of the fields.
struct Lab {
    edges: Vec<Edge>,
    replicas: [Replica; 2],
    _balancers: [Balancer; 2],
    kubectl: Kubectl,
    _api: ApiServer,
    _scratch: TempDir,
}

impl Lab {
    fn start(dialect: &str) -> Result<Lab> {
        let programs = Programs::find()?;
        let scratch = tempfile::tempdir()?;
        let folder = |name: &str| scratch.path().join(name);
        let api = ApiServer::start(&programs, &folder("api"))?;
        let prepare = |name: &str| Replica::prepare(&programs, &folder(name), &api.kubeconfig);
        let replicas = [prepare("a")?, prepare("b")?];
        // At the same moment: both find no CA and want to make one.
        for replica in &replicas {
            replica.program.start()?;
        }
        for replica in &replicas {
            replica.wait_ready()?;
        }
        let balancers = [
            Balancer::start(replicas.iter().map(|replica| replica.edge).collect())?,
            Balancer::start(replicas.iter().map(|replica| replica.certificates).collect())?,
        ];
        let kubeconfig = api.kubeconfig.to_string_lossy().into_owned();
        let token = programs.keadm(&["gettoken", "--kube-config", &kubeconfig])?.trim().to_owned();
        let cert_port = balancers[1].address().port();
        let doors = Doors { link: balancers[0].address(), cert_port, quic_port: 0, token };
        let dialect = format!("modules.edgeHub.dialect={dialect}");
        let join = |node: &&str| Edge::join_at(&programs, &doors, node, &folder(node), None, &[&dialect]);
        let edges = NODES.iter().map(join).collect::<Result<Vec<_>>>()?;
        let kubectl = Kubectl::new(&api.kubeconfig);
        Ok(Lab { edges, replicas, _balancers: balancers, kubectl, _api: api, _scratch: scratch })
    }

    /// Gives every node's config map a new text.
    fn update(&self, round: &str) -> Result<()> {
        let config_map = |node: &&str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("for-{node}"), "namespace": "default"}, "data": {"text": round}})
        };
        let list = json!({"apiVersion": "v1", "kind": "List",
            "items": NODES.iter().map(config_map).collect::<Vec<_>>()});
        self.kubectl.apply(&list.to_string()).map(|_| ())
    }

    /// Waits until every edge has `round` and all its objects; no version of what an edge holds may go back, nothing may go.
    fn wait_round(&self, seen: &mut [Stored], round: &str, deadline: Duration) -> Result<()> {
        wait::for_true(&format!("every edge has {round}"), deadline, || {
            let mut all = true;
            for (edge, seen) in self.edges.iter().zip(seen.iter_mut()) {
                let now = stored(edge)?;
                for (key, (version, _)) in seen.iter() {
                    let new = now.get(key).map(|(version, _)| *version);
                    assert!(new >= Some(*version), "{key} went from {version} to {new:?}");
                }
                all &= now.len() == OBJECTS;
                all &= now.values().any(|(_, value)| value.contains(&format!("\"{round}\"")));
                *seen = now;
            }
            Ok(all)
        })
    }
}

/// Key -> (version, object) of an edge's database.
type Stored = BTreeMap<String, (u64, String)>;

fn stored(edge: &Edge) -> Result<Stored> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(edge.database(), flags)?;
    let mut statement = database.prepare(
        "SELECT key, value FROM meta WHERE type IN ('configmap', 'pod') AND key NOT LIKE '%kube-root-ca.crt'",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut stored = Stored::new();
    for row in rows {
        let (key, value) = row?;
        let object: serde_json::Value = serde_json::from_str(&value)?;
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse().unwrap_or(0);
        stored.insert(key, (version, value));
    }
    Ok(stored)
}

#[test]
fn either_of_two_replicas_may_be_killed_and_edges_lose_and_revert_nothing() -> Result<()> {
    kill_each("auto")
}

#[test]
fn either_may_be_killed_in_kubeedges_dialect_too() -> Result<()> {
    kill_each("kubeedge")
}

fn kill_each(dialect: &str) -> Result<()> {
    let lab = Lab::start(dialect)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ca = |replica: &Replica| {
        let tls = pki::tls::client_before_trust();
        runtime.block_on(peer::get(tls, replica.certificates.port(), "/ca.crt", &[], Vec::new()))
    };
    let (a, b) = (ca(&lab.replicas[0])?, ca(&lab.replicas[1])?);
    ensure!(a.0 == 200 && a == b, "replicas that started together have different CAs");

    lab.update("round-0")?;
    for node in NODES {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod-{node}"), "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none",
                "envFrom": [{"configMapRef": {"name": format!("for-{node}")}}]}]}});
        lab.kubectl.apply(&pod.to_string())?;
    }
    let mut seen = vec![Stored::new(); NODES.len()];
    lab.wait_round(&mut seen, "round-0", PATIENCE)?;

    for (round, killed) in [("round-1", 0), ("round-2", 1)] {
        lab.replicas[killed].program.kill9()?;
        let killed_at = wait::now();
        lab.update(round)?;
        let updated = killed_at.elapsed();
        lab.wait_round(&mut seen, round, TAKEOVER)?;
        eprintln!(
            "{round}: applied {:.2} s after the kill, at every edge {:.2} s after the kill",
            updated.as_secs_f64(),
            killed_at.elapsed().as_secs_f64()
        );
        lab.replicas[killed].program.start()?;
        lab.replicas[killed].wait_ready()?;
    }
    lab.update("round-3")?;
    lab.wait_round(&mut seen, "round-3", PATIENCE)
}

#[test]
fn one_replica_deletes_the_records_of_nodes_that_are_gone() -> Result<()> {
    let lab = Lab::start("auto")?;
    let logs = || lab.replicas.iter().map(|replica| replica.program.log()).collect::<Result<Vec<_>>>();
    // Each work that one replica does for all has a leader of its own.
    let says = |log: &&String| log.contains("leading singleton=\"garbage\"");
    let leaders = || Ok::<_, anyhow::Error>(logs()?.iter().filter(says).count());
    wait::for_true("a replica leads", PATIENCE, || Ok(leaders()? == 1))?;
    let record = |node: &str| {
        json!({"apiVersion": "reliablesyncs.kubeedge.io/v1alpha1", "kind": "ObjectSync",
            "metadata": {"name": format!("{node}.11111111-2222-3333-4444-555555555555"), "namespace": "default"},
            "spec": {"objectAPIVersion": "v1", "objectKind": "ConfigMap", "objectName": "x"}})
        .to_string()
    };
    let names = || lab.kubectl.run(&["get", "objectsyncs", "-o", "name"]);
    for node in ["stays", "goes"] {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        lab.kubectl.apply(&object.to_string())?;
        lab.kubectl.apply(&record(node))?;
    }
    lab.kubectl.run(&["delete", "node", "goes"])?;
    wait::for_true("the record of the gone node is deleted", PATIENCE, || Ok(!names()?.contains("/goes.")))?;
    assert!(names()?.contains("/stays."), "{}", names()?);
    assert_eq!(leaders()?, 1, "one replica leads");
    Ok(())
}
