//! Pods on a whole site: what `crash` and `churn` have in common.

pub(crate) mod raw;
pub(crate) mod sightings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cloudcore::kubernetes::{Cluster, FromWatch, Resource, WatchEvent, feed};
use harness::programs::Programs;
use harness::site::{IMAGE, NODE, Site};
use message::Json;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const PODS: &str = "/api/v1/namespaces/default/pods";
/// Changes of pods that wait to be looked at.
const QUEUE: usize = 1024;
/// How long a pod may take to run or to be gone: EdgeCore may be killed many times meanwhile.
const PATIENCE: Duration = Duration::from_secs(90);

/// A site with a container runtime, and the ways into it. Not for use inside of a runtime: the site has its own.
pub(crate) struct Place {
    pub site: Site,
    pub cri: cri::Runtime,
    pub api: Api,
    pub runtime: Runtime,
}

impl Place {
    pub(crate) fn start(programs: &Path) -> Result<Place> {
        Place::start_with(programs, &[])
    }

    /// With settings of EdgeCore (`key.path=value`).
    pub(crate) fn start_with(programs: &Path, edge: &[&str]) -> Result<Place> {
        let site =
            Site::start_with(&Programs::in_folder(programs)?, true, edge, |text| println!("  {text}"))?;
        site.node_ready()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let socket = site.containerd()?.socket();
        let kubeconfig = site.cloud.kubeconfig();
        let (cri, cluster) = runtime.block_on(async {
            anyhow::Ok((cri::Runtime::new(&socket)?, Cluster::connect(Some(kubeconfig), "").await?))
        })?;
        let (told, pods) = watch::channel(Arc::default());
        let api = Api { cluster, pods };
        runtime.spawn(api.clone().follow(told));
        Ok(Place { site, cri, api, runtime })
    }
}

impl Place {
    /// Deletes pods and waits until they are gone.
    pub(crate) async fn delete(&self, names: &[String]) -> Result<()> {
        for name in names {
            self.api.delete(name).await?;
        }
        for name in names {
            self.api.wait(name, "gone", |pod| pod.is_none()).await?;
        }
        Ok(())
    }
}

/// All pods of the API server by name.
pub(crate) type Pods = BTreeMap<String, Value>;

/// The API server's view, as its watch tells it.
#[derive(Clone)]
pub(crate) struct Api {
    cluster: Cluster,
    pods: watch::Receiver<Arc<Pods>>,
}

impl Api {
    /// Follows the pods by a watch, as kubectl does: asking again and again would take time from what is measured.
    async fn follow(self, told: watch::Sender<Arc<Pods>>) {
        let (room, mut seen) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let _end = stop.clone().drop_guard();
        tokio::spawn(feed(self.cluster, Resource::Pods, room, stop));
        while let Some(FromWatch { event, .. }) = seen.recv().await {
            told.send_modify(|pods| match event {
                WatchEvent::Put { meta, object } => {
                    Arc::make_mut(pods).insert(meta.name, object.parse().unwrap_or_default());
                }
                WatchEvent::Gone { meta, .. } => {
                    Arc::make_mut(pods).remove(&meta.name);
                }
                WatchEvent::Synced => {}
            });
        }
    }

    /// Asks now.
    pub(crate) async fn list(&self) -> Result<Pods> {
        let list: Value = self.cluster.get(PODS).await?.parse()?;
        let items = list["items"].as_array().context("a list of pods")?;
        let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(items.iter().map(|pod| (name(pod), pod.clone())).collect())
    }

    pub(crate) async fn create(&self, name: &str, containers: usize) -> Result<()> {
        self.cluster.create(PODS, &Json::encode(&pod(name, containers))?).await?;
        Ok(())
    }

    /// Gives a config map another number.
    pub(crate) async fn put_config_map(&self, name: &str, number: usize) -> Result<()> {
        let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"number": number.to_string()}});
        let path = format!("/api/v1/namespaces/default/configmaps/{name}");
        self.cluster.replace(&path, &Json::encode(&config_map)?).await?;
        Ok(())
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        self.cluster.delete(&format!("{PODS}/{name}"), &Json::encode(&json!({}))?).await?;
        Ok(())
    }

    /// Waits until the pod is as `holds` says; `None` is a pod that is not there.
    pub(crate) async fn wait(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(Option<&Value>) -> bool,
    ) -> Result<()> {
        let mut pods = self.pods.clone();
        let waiting = async { pods.wait_for(|pods| holds(pods.get(name))).await.map(|_| ()) };
        let Ok(found) = tokio::time::timeout(PATIENCE, waiting).await else {
            let status = self.pods.borrow().get(name).map(|pod| pod["status"].to_string());
            anyhow::bail!("pod {name} not {what} within {PATIENCE:?}: {}", status.unwrap_or_default());
        };
        found.context("the API server is not watched")
    }
}

pub(crate) fn is_ready(pod: Option<&Value>) -> bool {
    let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A program that ends at once when told to, and never by itself.
pub(crate) fn command() -> Vec<String> {
    ["sh", "-c", "trap 'exit 0' TERM; sleep 2147483647 & wait"].map(str::to_owned).into()
}

/// Its containers end at once when told to, and never by themselves.
fn pod(name: &str, containers: usize) -> Value {
    let container = |number: usize| {
        json!({"name": format!("c{number}"), "image": IMAGE,
            "command": command(),
            "volumeMounts": [{"name": "memory", "mountPath": "/memory"}]})
    };
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 10,
            "volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}],
            "containers": (0..containers).map(container).collect::<Vec<_>>()}})
}
