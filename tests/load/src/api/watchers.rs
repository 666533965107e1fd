//! How long a change takes to those who watch.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::clients::{Client, body, path};

/// The longest a change may take.
pub(super) const LATE: Duration = Duration::from_secs(30);

/// Milliseconds from the request of each of `changes`, one after the other, to each of `watchers`.
pub(super) async fn fan_out(kubeconfig: &Path, watchers: usize, changes: usize) -> Result<Vec<f64>> {
    let (tell, mut told) = mpsc::channel(watchers * 4);
    let mut tasks = Vec::new();
    let writer = Client::connect(kubeconfig).await?;
    // As informers do after their list: from its revision.
    let page = writer.get(&format!("{}?limit=1", path(""))).await?;
    let revision = revision(&page)?;
    for client in Client::many(kubeconfig, watchers).await? {
        let body = client.watch(&format!("{}?watch=1&resourceVersion={revision}", path(""))).await?;
        let tell = tell.clone();
        tasks.push(tokio::spawn(async move {
            let _connected = client;
            follow(body, tell).await
        }));
    }
    let mut samples = Vec::new();
    for at in 0..changes {
        let body = body(5, 1000 + at);
        let began = harness::wait::now();
        writer.put(&path("o-5"), body).await?;
        for _ in 0..watchers {
            let seen = tokio::time::timeout(LATE, told.recv()).await?.context("a watcher ended")?;
            samples.push(seen.saturating_duration_since(began).as_secs_f64() * 1000.0);
        }
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(samples)
}

/// The resource version of a list.
fn revision(body: &[u8]) -> Result<String> {
    let list: serde_json::Value = serde_json::from_slice(body)?;
    list["metadata"]["resourceVersion"].as_str().map(str::to_owned).context("a resource version")
}

/// Tells of the end of each line when it came.
pub(super) async fn follow(mut body: Incoming, tell: mpsc::Sender<Instant>) -> Result<()> {
    while let Some(frame) = body.frame().await {
        let now = harness::wait::now();
        let Ok(data) = frame?.into_data() else { continue };
        for _ in data.iter().filter(|byte| **byte == b'\n') {
            tell.send(now).await?;
        }
    }
    anyhow::bail!("the watch ended")
}
