//! What nodes said that they and their pods use, for as long as it is fresh: whoever asks for the usage of a fleet, again and again,
//! asks each node no more often than metrics-server does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long an answer counts (metrics-server's `--metric-resolution` as it is deployed).
const FRESH: Duration = Duration::from_secs(15);

/// What is read of a node's `/stats/summary`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Summary {
    pub node: Usage,
    pub pods: Vec<PodUsage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub cpu: Cpu,
    pub memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Cpu {
    pub time: String,
    pub usage_nano_cores: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Memory {
    pub working_set_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodUsage {
    pub pod_ref: PodRef,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodRef {
    pub name: String,
    pub namespace: String,
    pub uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerUsage {
    pub name: String,
    #[serde(flatten)]
    pub usage: Usage,
}

impl Usage {
    /// `None`: the node has not measured it yet.
    pub(crate) fn amounts(&self) -> Option<Value> {
        let (cpu, memory) = (self.cpu.usage_nano_cores?, self.memory.working_set_bytes?);
        Some(json!({"cpu": format!("{cpu}n"), "memory": format!("{}Ki", memory / 1024)}))
    }
}

/// Answers of nodes, by their names.
#[derive(Default)]
pub(crate) struct Recent(Mutex<HashMap<String, (Instant, Arc<Summary>)>>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, Arc<Summary>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a node said lately.
    pub(crate) fn of(&self, node: &str) -> Option<Arc<Summary>> {
        let all = self.lock();
        all.get(node).filter(|(said, _)| said.elapsed() < FRESH).map(|(_, summary)| summary.clone())
    }

    /// A node said this now. What it has not measured yet is asked for again; what is no longer fresh goes.
    pub(crate) fn keep(&self, node: &str, summary: &Arc<Summary>) {
        let mut all = self.lock();
        all.retain(|_, (said, _)| said.elapsed() < FRESH);
        if summary.node.amounts().is_some() {
            all.insert(node.to_owned(), (Instant::now(), summary.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(cores: Option<u64>) -> Arc<Summary> {
        let node = Usage {
            cpu: Cpu { usage_nano_cores: cores, ..Cpu::default() },
            memory: Memory { working_set_bytes: Some(1) },
        };
        Arc::new(Summary { node, pods: Vec::new() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_said_counts_while_it_is_fresh_and_is_not_kept_for_longer() {
        let recent = Recent::default();
        recent.keep("measured", &summary(Some(1)));
        recent.keep("new", &summary(None));
        assert!(recent.of("measured").is_some() && recent.of("new").is_none());
        tokio::time::advance(FRESH).await;
        assert!(recent.of("measured").is_none());
        recent.keep("other", &summary(Some(1)));
        assert_eq!(recent.lock().len(), 1);
    }
}
