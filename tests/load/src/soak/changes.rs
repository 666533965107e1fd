//! What changes meanwhile: config maps are written, pods are labelled, deleted and made anew. The one who changes them goes
//! to the API server directly and tries again until each change is taken.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use cloudcore::kubernetes::{Cluster, Merge};
use message::{Json, Status};
use rand::RngExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::objects;

const PODS: &str = "/api/v1/namespaces/default/pods";
/// Between attempts while the API server is away.
const AGAIN: Duration = Duration::from_millis(100);
/// Many times as long as the API server is away at a restart.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is there and what it says.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Text of each config map.
    pub config_maps: BTreeMap<String, u64>,
    /// Node and mark of each pod.
    pub pods: BTreeMap<String, (String, u64)>,
}

/// Names of the config maps of `node`.
pub(super) fn config_maps(node: &str, each: usize) -> Vec<String> {
    (0..each).map(|number| format!("load-{node}-{number}")).collect()
}

impl Wanted {
    /// For each node its config maps, a pod that reads them, and others up to `pods`.
    pub(super) fn start(nodes: &[String], config_maps_each: usize, pods_each: usize) -> Wanted {
        let mut wanted = Wanted::default();
        for node in nodes {
            wanted.config_maps.extend(config_maps(node, config_maps_each).into_iter().map(|name| (name, 0)));
            wanted.pods.insert(format!("reader-{node}"), (node.clone(), 0));
            for number in 1..pods_each {
                wanted.pods.insert(format!("worker-{node}-{number}-0"), (node.clone(), 0));
            }
        }
        wanted
    }

    pub(super) async fn make_all(&self, cluster: &Cluster, config_maps_each: usize) -> Result<()> {
        let maps = self.config_maps.keys().map(|name| objects::config_map(name, "0"));
        let pods = self.pods.iter().map(|(name, (node, _))| match name.starts_with("reader-") {
            true => objects::pod(name, node, &config_maps(node, config_maps_each)),
            false => worker(name, node),
        });
        objects::ensure_all(cluster, maps.chain(pods).collect()).await
    }

    /// Changes something every `pace` until stopped: as many config maps as pods.
    pub(super) async fn change(
        mut self,
        cluster: Cluster,
        pace: Duration,
        stop: CancellationToken,
    ) -> Result<Wanted> {
        let mut number = 0;
        while stop.run_until_cancelled(tokio::time::sleep(pace)).await.is_some() {
            number += 1;
            match number % 4 {
                0 | 2 => self.write_config_map(&cluster, number).await?,
                1 => self.mark_pod(&cluster, number).await?,
                _ => self.replace_pod(&cluster, number).await?,
            }
        }
        Ok(self)
    }

    async fn write_config_map(&mut self, cluster: &Cluster, number: u64) -> Result<()> {
        let Some((name, text)) = any(&mut self.config_maps) else { return Ok(()) };
        *text = number;
        let text = number.to_string();
        until_taken(&format!("patch config map {name}"), || objects::patch(cluster, &name, &text)).await
    }

    async fn mark_pod(&mut self, cluster: &Cluster, number: u64) -> Result<()> {
        let Some((name, (_, mark))) = any(&mut self.pods) else { return Ok(()) };
        *mark = number;
        let path = format!("{PODS}/{name}");
        let patch = json!({"metadata": {"annotations": {"mark": number.to_string()}}}).to_string();
        until_taken(&format!("patch {path}"), || cluster.patch(&path, Merge::Json, patch.clone())).await
    }

    async fn replace_pod(&mut self, cluster: &Cluster, number: u64) -> Result<()> {
        let Some((name, (node, _))) = any(&mut self.pods) else { return Ok(()) };
        // Readers stay: they are why nodes have their config maps.
        let Some((slot, _)) = name.strip_prefix("worker-").and_then(|rest| rest.rsplit_once('-')) else {
            return Ok(());
        };
        let (next, node) = (format!("worker-{slot}-{number}"), node.clone());
        self.pods.remove(&name);
        let path = format!("{PODS}/{name}");
        let options = Json::encode(&json!({"gracePeriodSeconds": 1}))?;
        until_taken(&format!("delete {path}"), || async {
            match cluster.delete(&path, &options).await {
                Err(status) if status.code == 404 => Ok(()),
                result => result.map(drop),
            }
        })
        .await?;
        let (collection, pod) = worker(&next, &node);
        let pod = Json::encode(&pod)?;
        until_taken(&format!("create pod {next}"), || async {
            match cluster.create(&collection, &pod).await {
                // The answer to the attempt before was lost.
                Err(status) if status.code == 409 => Ok(()),
                result => result.map(drop),
            }
        })
        .await?;
        self.pods.insert(next, (node, 0));
        Ok(())
    }
}

fn any<V>(all: &mut BTreeMap<String, V>) -> Option<(String, &mut V)> {
    let at = rand::rng().random_range(0..all.len().max(1));
    all.iter_mut().nth(at).map(|(name, value)| (name.clone(), value))
}

fn worker(name: &str, node: &str) -> (String, Value) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "none"}]}});
    (PODS.to_owned(), pod)
}

/// Asks until the API server takes it; an error names the `change` that it did not take in all of [`PATIENCE`].
async fn until_taken<T, F: Future<Output = Result<T, Status>>>(
    change: &str,
    attempt: impl Fn() -> F,
) -> Result<()> {
    let began = harness::wait::now();
    while let Err(status) = attempt().await {
        if began.elapsed() > PATIENCE {
            return Err(status).with_context(|| format!("{change}: not taken in {PATIENCE:?}"));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}
