//! Nodes and their pods, played by status patches: what the API server and its controllers see of them, without containers.
//!
//! A pod on a node that is played becomes Running and ready, or Succeeded if it is not to be restarted; one that is deleted goes. A
//! node renews its lease until it falls silent.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use harness::kubectl::Kubectl;
use harness::wait;
use serde_json::{Value, json};

const LOOK: Duration = Duration::from_millis(200);
/// Looks between two renewals of a lease: well below the grace of 50 s.
const RENEW: u32 = 40;

#[derive(Default)]
struct Shared {
    nodes: Mutex<BTreeSet<String>>,
    ends: AtomicBool,
}

impl Shared {
    fn nodes(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plays until it is dropped.
pub struct Players {
    kubectl: Kubectl,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn now() -> String {
    daemon::clock::rfc3339_micro(daemon::clock::now())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Players {
    pub fn start(kubectl: Kubectl) -> Players {
        let shared = Arc::new(Shared::default());
        let (seen, own) = (shared.clone(), kubectl.clone());
        let thread = std::thread::spawn(move || {
            let (mut looks, mut started) = (0, 0);
            while !seen.ends.load(Ordering::Relaxed) {
                let nodes = seen.nodes().clone();
                // What failed is done at the next look, as by an agent.
                let _ = look(&own, &nodes, &mut started);
                if looks % RENEW == 0 {
                    let _ = nodes.iter().try_for_each(|node| renew(&own, node));
                }
                looks += 1;
                wait::pause(LOOK);
            }
        });
        Players { kubectl, shared, thread: Some(thread) }
    }

    /// A node that is ready, or is so again.
    pub fn add(&self, name: &str) -> Result<()> {
        let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "50"});
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        self.kubectl.apply(&node.to_string())?;
        renew(&self.kubectl, name)?;
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": now()});
        let status = json!({"status": {"allocatable": amounts, "capacity": amounts, "conditions": [ready]}});
        let (status, how) = (status.to_string(), ["--subresource=status", "--type=merge", "-p"]);
        self.kubectl.run(&[&["patch", "node", name], &how[..], &[&status]].concat())?;
        self.shared.nodes().insert(name.to_owned());
        Ok(())
    }

    /// Neither the node nor its pods say anything any more.
    pub fn silence(&self, name: &str) {
        self.shared.nodes().remove(name);
    }

    /// The node is gone.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.kubectl.run(&["delete", "node", name])?;
        Ok(())
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn renew(kubectl: &Kubectl, node: &str) -> Result<()> {
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now()}});
    kubectl.apply(&lease.to_string()).map(drop)
}

fn look(kubectl: &Kubectl, nodes: &BTreeSet<String>, started: &mut u32) -> Result<()> {
    let pods: Value = serde_json::from_str(&kubectl.run(&["get", "pods", "-A", "-o", "json"])?)?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        if nodes.contains(text(pod, "/spec/nodeName")) {
            play(kubectl, pod, started)?;
        }
    }
    Ok(())
}

fn play(kubectl: &Kubectl, pod: &Value, started: &mut u32) -> Result<()> {
    let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let force = ["--grace-period=0", "--force", "--wait=false"];
        return kubectl.run(&[&["delete", "pod", "-n", namespace, name], &force[..]].concat()).map(drop);
    }
    let runs = text(pod, "/spec/restartPolicy") == "Always";
    let phase = if runs { "Running" } else { "Succeeded" };
    if text(pod, "/status/phase") == phase {
        return Ok(());
    }
    *started += 1;
    let ip = format!("10.1.{}.{}", *started / 250, *started % 250);
    let ready = json!({"type": "Ready", "status": if runs { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status =
        json!({"status": {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}});
    let (status, how) = (status.to_string(), ["--subresource=status", "--type=strategic", "-p"]);
    kubectl.run(&[&["patch", "pod", "-n", namespace, name], &how[..], &[&status]].concat()).map(drop)
}
