//! Informers as client-go's: a list in a stream, then a watch, for as long as they are held.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use harness::wait::PATIENCE;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// Informers of pods, config maps and Services; they end when this is dropped. Returns once they have seen `pods` pods and the
/// others' first objects.
pub(super) async fn start(kubeconfig: &Path, pods: usize) -> Result<JoinSet<()>> {
    let mut all = JoinSet::new();
    let seen: [Arc<AtomicUsize>; 3] = Default::default();
    let client = || connect(kubeconfig);
    follow(&mut all, Api::<Pod>::namespaced(client().await?, "default"), seen[0].clone());
    follow(&mut all, Api::<ConfigMap>::namespaced(client().await?, "default"), seen[1].clone());
    follow(&mut all, Api::<Service>::all(client().await?), seen[2].clone());
    let until = tokio::time::timeout(PATIENCE, async {
        while seen.iter().zip([pods, 1, 1]).any(|(seen, wanted)| seen.load(Ordering::Relaxed) < wanted) {
            tokio::time::sleep(LOOK).await;
        }
    });
    until.await.context("informers at the node do not see all objects")?;
    Ok(all)
}

fn follow<K>(all: &mut JoinSet<()>, api: Api<K>, seen: Arc<AtomicUsize>)
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = watcher(api, watcher::Config::default().streaming_lists()).default_backoff().boxed();
    all.spawn(async move {
        while let Some(event) = events.next().await {
            if matches!(event, Ok(Event::InitApply(_) | Event::Apply(_))) {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

/// Waits until the node answers with the link or without it, as it should: a stale answer says so.
pub(super) async fn is_linked(kubeconfig: &Path, linked: bool) -> Result<()> {
    let client = connect(kubeconfig).await?;
    let told = async {
        loop {
            let request =
                http::Request::get("/api/v1/namespaces/default/pods").body(kube::client::Body::empty());
            let answer = client.send(request?).await;
            if answer.is_ok_and(|answer| {
                answer.status() == 200 && answer.headers().contains_key("warning") != linked
            }) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.context("the node does not notice its link")?
}
