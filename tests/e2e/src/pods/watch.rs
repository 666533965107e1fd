//! Every version of every pod, as kubectl is told of it.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use harness::kubectl::Kubectl;
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Whole pods, oldest first.
    pub versions: Vec<Value>,
    pub gone: bool,
}

type Pods = Arc<Mutex<BTreeMap<String, History>>>;

/// A `kubectl get pods --watch` that runs until it is dropped.
pub(super) struct Watch {
    child: Child,
    pods: Pods,
}

impl Watch {
    pub(super) fn start(kubectl: &Kubectl) -> Result<Watch> {
        let arguments = ["get", "pods", "--watch", "--output-watch-events", "-o", "json"];
        let mut child = kubectl
            .command(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("running kubectl get --watch")?;
        let output = child.stdout.take().context("kubectl has no output")?;
        let pods = Pods::default();
        let told = pods.clone();
        std::thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
            for event in events.map_while(Result::ok) {
                tell(&told, event);
            }
        });
        Ok(Watch { child, pods })
    }

    /// What is known of a pod.
    pub(super) fn of(&self, name: &str) -> History {
        locked(&self.pods).get(name).cloned().unwrap_or_default()
    }

    /// Pods the API server still has.
    pub(super) fn present(&self) -> Vec<String> {
        let pods = locked(&self.pods);
        pods.iter().filter(|(_, history)| !history.gone).map(|(name, _)| name.clone()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn locked(pods: &Pods) -> MutexGuard<'_, BTreeMap<String, History>> {
    pods.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(pods: &Pods, mut event: Value) {
    let object = event["object"].take();
    let Some(name) = object["metadata"]["name"].as_str().map(str::to_owned) else { return };
    let mut pods = locked(pods);
    let history = pods.entry(name).or_default();
    history.gone = event["type"] == "DELETED";
    history.versions.push(object);
}
