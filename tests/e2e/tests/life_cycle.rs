//! The four cases of nodes that are not heard of, under the rules by which Kubernetes evicts their pods, thirty times faster.
//!
//! Under kube-controller-manager itself: `harness::given`, with kube-apiserver's `--default-not-ready-toleration-seconds=10` and
//! `--default-unreachable-toleration-seconds=10`, and `--node-monitor-grace-period=20s`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::life_cycle::{self, Repeated, UNREACHABLE, containers};
use harness::given;
use harness::kubectl::Kubectl;
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use harness::wait;
use harness::wait::PATIENCE;
use serde_json::{Value, json};

const FASTER: u32 = 30;
/// 15 minutes.
const CUT: Duration = Duration::from_secs(15 * 60 / FASTER as u64);
/// Kubernetes' usual patience, in seconds: pods that have it are gone within the cut.
const USUAL: i64 = 300;
const AUTONOMY: &str = "node.openyurt.io/autonomy-duration";

fn pod(name: &str, labels: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": IMAGE, "command": ["sleep", "1000000"]}]}})
    .to_string()
}

struct Lab {
    site: Site,
    kubectl: Kubectl,
    /// By so much what is written is shorter than it says: by nothing where the controller's clock runs faster.
    shorter: u32,
    _controllers: Repeated,
}

impl Lab {
    fn start() -> Result<Lab> {
        let site = Site::start_on(&Programs::find()?, true, (&[life_cycle::OWN], &[]), |_| {})?;
        site.node_ready()?;
        let kubectl = site.kubectl();
        let (shorter, controllers) = match given::kubeconfig() {
            Some(_) => (FASTER, life_cycle::neighbour(kubectl.clone())?),
            None => (1, life_cycle::controllers(kubectl.clone(), NODE, FASTER)),
        };
        Ok(Lab { site, kubectl, shorter, _controllers: controllers })
    }

    /// So many seconds, as pods and policies say them.
    fn seconds(&self, seconds: i64) -> i64 {
        seconds / i64::from(self.shorter)
    }

    /// Makes pods and waits until they are ready.
    fn pods(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.kubectl.apply(&pod(name, json!({"app": name})))?;
        }
        names.iter().try_for_each(|name| self.ready(name))
    }

    fn ready(&self, name: &str) -> Result<()> {
        wait::for_true(&format!("{name} is ready"), PATIENCE, || self.is_ready(name))
    }

    fn is_ready(&self, name: &str) -> Result<bool> {
        let ready = ".status.conditions[?(@.type==\"Ready\")].status";
        Ok(self.kubectl.field("pod", name, ready)? == "True")
    }

    fn policy(&self, seconds: i64) -> Result<()> {
        let duration = format!("{AUTONOMY}={}s", self.seconds(seconds));
        self.kubectl.run(&["annotate", "--overwrite", "node", NODE, &duration])?;
        Ok(())
    }

    /// Waits until a pod tolerates that its node is unreachable for so many seconds; `None`: for ever.
    fn tolerates(&self, name: &str, seconds: Option<i64>) -> Result<()> {
        wait::for_true(&format!("{name} tolerates {seconds:?}"), PATIENCE, || {
            let pod = self.kubectl.get("pod", name)?;
            let tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
            let one = tolerations.iter().find(|one| one["key"] == UNREACHABLE).context("no toleration")?;
            Ok(one["tolerationSeconds"].as_i64() == seconds.map(|seconds| self.seconds(seconds)))
        })
    }

    /// Waits until Kubernetes has given the node up.
    fn given_up(&self) -> Result<()> {
        wait::for_true("the node is given up", PATIENCE, || {
            Ok(self.kubectl.get("node", NODE)?["spec"]["taints"].to_string().contains(UNREACHABLE))
        })
    }

    fn evicted(&self, name: &str) -> Result<()> {
        wait::for_true(&format!("{name} is evicted"), PATIENCE, || self.is_evicted(name))
    }

    fn is_evicted(&self, name: &str) -> Result<bool> {
        let found = self.kubectl.run(&["get", "pod", name, "--ignore-not-found", "-o", "json"])?;
        if found.trim().is_empty() {
            return Ok(true);
        }
        let pod: Value = serde_json::from_str(&found)?;
        Ok(pod["metadata"]["deletionTimestamp"].is_string())
    }
}

#[test]
fn a_healthy_node_keeps_its_pods_and_endpoints_through_a_cut_and_a_node_without_a_policy_does_not()
-> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let lab = Lab::start()?;
    lab.pods(&["kept", "own"])?;
    lab.policy(7200)?;
    lab.tolerates("kept", Some(7200))?;
    let before = lab.kubectl.get("pod", "kept")?;
    lab.site.relay.cut();
    lab.given_up()?;
    let began = wait::now();
    wait::for_true("the pod is an endpoint again", PATIENCE, || lab.is_ready("kept"))?;
    while began.elapsed() < CUT {
        ensure!(!lab.is_evicted("kept")?, "evicted after {:?}", began.elapsed());
        ensure!(lab.is_ready("kept")?, "no endpoint after {:?}", began.elapsed());
        wait::pause(Duration::from_secs(1));
    }
    lab.site.relay.heal();
    lab.site.node_ready()?;
    wait::for_true("the taints are gone", PATIENCE, || {
        let taints = lab.kubectl.get("node", NODE)?["spec"]["taints"].to_string();
        Ok(!taints.contains(UNREACHABLE) && !taints.contains("link-lost"))
    })?;
    let after = lab.kubectl.get("pod", "kept")?;
    ensure!(after["metadata"]["uid"] == before["metadata"]["uid"]);
    ensure!(containers(&after) == containers(&before), "{:?} {:?}", containers(&before), containers(&after));

    // Without a policy the same cut takes the pods away: it is the policy that keeps them.
    lab.kubectl.run(&["annotate", "node", NODE, &format!("{AUTONOMY}-")])?;
    lab.tolerates("kept", Some(USUAL))?;
    lab.tolerates("own", Some(USUAL))?;
    lab.ready("kept")?;
    lab.site.relay.cut();
    lab.given_up()?;
    lab.evicted("kept")?;
    lab.evicted("own")
}

#[test]
fn pods_of_a_dead_node_are_evicted_after_the_chosen_time_and_those_of_a_policy_that_ends_after_the_usual()
-> Result<()> {
    if e2e::skip::without_containers() {
        return Ok(());
    }
    let lab = Lab::start()?;
    lab.pods(&["chosen"])?;
    lab.kubectl.apply(&pod("labelled", json!({"app-offline.kubeedge.io": "autonomy"})))?;
    lab.ready("labelled")?;
    // Ten minutes, where Kubernetes' own are five.
    lab.policy(600)?;
    lab.tolerates("chosen", Some(600))?;
    lab.site.edge.kill9()?;
    lab.given_up()?;
    let began = wait::now();
    lab.evicted("chosen")?;
    let least = Duration::from_secs(USUAL as u64 / u64::from(FASTER));
    ensure!(began.elapsed() > least, "evicted after {:?}", began.elapsed());
    ensure!(!lab.is_evicted("labelled")?, "KubeEdge's label keeps a pod on any node");

    // The node comes back: what was kept is adopted, what was evicted is gone.
    let before = lab.kubectl.get("pod", "labelled")?;
    lab.site.edge.start()?;
    lab.site.node_ready()?;
    lab.ready("labelled")?;
    let after = lab.kubectl.get("pod", "labelled")?;
    ensure!(containers(&after) == containers(&before), "{:?} {:?}", containers(&before), containers(&after));
    wait::for_true("the evicted pod is gone", PATIENCE, || {
        let found = lab.kubectl.run(&["get", "pod", "chosen", "--ignore-not-found"])?;
        Ok(found.trim().is_empty())
    })?;

    // The policy is removed while the node is away: its pods get what is usual, and go.
    lab.policy(0)?;
    lab.pods(&["later"])?;
    lab.tolerates("later", None)?;
    lab.site.relay.cut();
    lab.given_up()?;
    wait::pause(Duration::from_secs(2 * USUAL as u64 / u64::from(FASTER)));
    ensure!(!lab.is_evicted("later")?);
    lab.kubectl.run(&["annotate", "node", NODE, &format!("{AUTONOMY}-")])?;
    lab.evicted("later")?;
    ensure!(!lab.is_evicted("labelled")?);
    Ok(())
}
