//! What kube-controller-manager does to nodes that are not heard of (its node life cycle and taint eviction controllers), so many
//! times faster. Those of the embedded API server, which keep Kubernetes' times, are off meanwhile ([`OWN`]).
//!
//! Rules (Kubernetes, pkg/controller/nodelifecycle and tainteviction): a lease that was not renewed for the grace period
//! makes all conditions of the node Unknown, its pods unready, once, and taints it; a pod is deleted when the shortest of
//! its tolerations of the NoExecute taint is over, counted from the taint on; a Ready node loses the taints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::kubectl::Kubectl;
use harness::wait;
use serde_json::{Value, json};

/// What 50 s of kube-controller-manager and more are here: a node renews its lease each 10 s, at any scale.
const GRACE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(500);
const NEIGHBOUR: &str = "neighbour";
/// The setting of a cloud whose nodes are played with here.
pub const OWN: &str =
    "modules.standalone.controllers=[\"*\", \"-node-lifecycle-controller\", \"-taint-eviction-controller\"]";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Something that is done again and again until it is dropped.
pub struct Repeated {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Repeated {
    /// What failed is done at the next time, as by a controller.
    fn start(mut work: impl FnMut() -> Result<()> + Send + 'static) -> Repeated {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let _ = work();
                wait::pause(LOOK);
            }
        });
        Repeated { stop, thread: Some(thread) }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The controllers of one node. Tolerations last `faster` times shorter.
pub fn controllers(kubectl: Kubectl, node: &str, faster: u32) -> Repeated {
    let mut controller = Controller { kubectl, node: node.to_owned(), faster, renewed: None, tainted: None };
    Repeated::start(move || controller.look())
}

/// A node that is always heard of: kube-controller-manager evicts nothing while it hears of no node at all.
pub fn neighbour(kubectl: Kubectl) -> Result<Repeated> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NEIGHBOUR}});
    let lease = || {
        let now = daemon::clock::rfc3339_micro(daemon::clock::now());
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": NEIGHBOUR, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": NEIGHBOUR, "leaseDurationSeconds": 40, "renewTime": now}})
    };
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    kubectl.apply(&node.to_string())?;
    Ok(Repeated::start(move || {
        kubectl.apply(&lease().to_string())?;
        let (ready, status) = (ready.to_string(), ["--subresource=status", "--type=strategic", "-p"]);
        kubectl.run(&[&["patch", "node", NEIGHBOUR], &status[..], &[&ready]].concat()).map(drop)
    }))
}

struct Controller {
    kubectl: Kubectl,
    node: String,
    faster: u32,
    /// What the lease said, and since when.
    renewed: Option<(Value, std::time::Instant)>,
    /// Since when the node is tainted.
    tainted: Option<std::time::Instant>,
}

impl Controller {
    fn look(&mut self) -> Result<()> {
        let lease = self.kubectl.run(&["get", "lease", &self.node, "-n", "kube-node-lease", "-o", "json"])?;
        let lease: Value = serde_json::from_str(&lease)?;
        let now = wait::now();
        let renewed = lease["spec"]["renewTime"].clone();
        let since = match &self.renewed {
            Some((before, since)) if *before == renewed => *since,
            _ => now,
        };
        self.renewed = Some((renewed, since));
        let node = self.kubectl.get("node", &self.node)?;
        let ready = condition(&node, "Ready").map(|ready| ready["status"].clone()).unwrap_or_default();
        if now.duration_since(since) >= GRACE && ready != "Unknown" {
            self.give_up(&node)?;
        }
        let node = self.kubectl.get("node", &self.node)?;
        let is_unknown = condition(&node, "Ready").is_some_and(|ready| ready["status"] == "Unknown");
        self.taint(&node, is_unknown)?;
        match is_unknown {
            true => {
                let since = *self.tainted.get_or_insert_with(wait::now);
                self.evict(since)
            }
            false => {
                self.tainted = None;
                Ok(())
            }
        }
    }

    fn give_up(&self, node: &Value) -> Result<()> {
        let kinds = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
        let conditions: Vec<Value> = kinds
            .iter()
            .map(|kind| {
                json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status."})
            })
            .collect();
        self.patch_status("node", &self.node, &json!({"status": {"conditions": conditions}}))?;
        if condition(node, "Ready").is_some_and(|ready| ready["status"] == "True") {
            for pod in self.pods()? {
                let name = pod["metadata"]["name"].as_str().context("a name")?.to_owned();
                let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
                self.patch_status("pod", &name, &unready)?;
            }
        }
        Ok(())
    }

    fn taint(&self, node: &Value, is_unknown: bool) -> Result<()> {
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let ours = |taint: &Value| taint["key"] == UNREACHABLE;
        if taints.iter().any(ours) == is_unknown {
            return Ok(());
        }
        let mut taints: Vec<Value> = taints.into_iter().filter(|taint| !ours(taint)).collect();
        if is_unknown {
            taints.extend(
                ["NoSchedule", "NoExecute"].map(|effect| json!({"key": UNREACHABLE, "effect": effect})),
            );
        }
        let version = &node["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
        self.kubectl.run(&["patch", "node", &self.node, "--type=merge", "-p", &patch.to_string()]).map(drop)
    }

    fn evict(&self, since: std::time::Instant) -> Result<()> {
        for pod in self.pods()? {
            let is_leaving = pod["metadata"]["deletionTimestamp"].is_string();
            let name = pod["metadata"]["name"].as_str().context("a name")?;
            let over = match tolerated(&pod) {
                Tolerated::Forever => false,
                Tolerated::For(time) => since.elapsed() >= time / self.faster,
            };
            if over && !is_leaving {
                self.kubectl.run(&["delete", "pod", name, "--wait=false"])?;
            }
        }
        Ok(())
    }

    fn pods(&self) -> Result<Vec<Value>> {
        let fields = format!("spec.nodeName={}", self.node);
        let pods = self.kubectl.run(&["get", "pods", "--field-selector", &fields, "-o", "json"])?;
        let pods: Value = serde_json::from_str(&pods)?;
        Ok(pods["items"].as_array().cloned().unwrap_or_default())
    }

    fn patch_status(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        self.kubectl
            .run(&["patch", kind, name, "--subresource=status", "--type=strategic", "-p", &patch])
            .map(drop)
    }
}

enum Tolerated {
    Forever,
    For(Duration),
}

/// The shortest of the tolerations of the taint counts.
fn tolerated(pod: &Value) -> Tolerated {
    let tolerations = pod["spec"]["tolerations"].as_array().into_iter().flatten();
    let is_any = |field: &Value| field.as_str().is_none_or(str::is_empty);
    let mut ours = tolerations
        .filter(|one| one["key"] == UNREACHABLE || (is_any(&one["key"]) && one["operator"] == "Exists"))
        .filter(|one| is_any(&one["effect"]) || one["effect"] == "NoExecute")
        .peekable();
    if ours.peek().is_none() {
        return Tolerated::For(Duration::ZERO);
    }
    match ours.filter_map(|one| one["tolerationSeconds"].as_i64()).min() {
        None => Tolerated::Forever,
        Some(seconds) => Tolerated::For(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Containers of a pod by name, and their ids.
pub fn containers(pod: &Value) -> BTreeMap<String, String> {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    statuses.map(|status| (text(&status["name"]), text(&status["containerID"]))).collect()
}
