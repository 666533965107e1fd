//! Fetches the texts of config maps and secrets that are to be sent and are not in memory.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use message::{ObjectKey, Status};
use tokio_util::sync::CancellationToken;

use super::Downstream;
use crate::desired::{Arrived, Source};
use crate::kubernetes::{Cluster, Meta};

/// Requests at once.
const AT_ONCE: usize = 16;
/// Pause after a text that could not be had, or that was older than what a watch has told.
const AGAIN: Duration = Duration::from_secs(1);

/// Fetches until stopped. What cannot be had is asked for again until it is here, gone, or nobody has a use for it.
pub async fn fetch_missing(
    downstream: Downstream,
    cluster: Cluster,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut asked: HashSet<ObjectKey> = HashSet::new();
    let mut answers = FuturesUnordered::new();
    loop {
        let places = AT_ONCE - answers.len();
        tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            Some(key) = answers.next(), if !answers.is_empty() => drop(asked.remove(&key)),
            missing = downstream.missing(&asked, places), if places > 0 => {
                for key in missing {
                    asked.insert(key.clone());
                    answers.push(fetch(&downstream, &cluster, key));
                }
            }
        }
    }
}

/// One question. Returns the key when it may be asked for again.
async fn fetch(downstream: &Downstream, cluster: &Cluster, key: ObjectKey) -> ObjectKey {
    let is_here = match text(cluster, &key).await {
        Ok(arrived) => {
            downstream.change(|placement| placement.fetched(arrived));
            !downstream.is_missing(&key)
        }
        Err(status) if status.is_retryable() || status.is_not_found() => {
            tracing::debug!(%key, error = %status, "a text that a node has a use for is not here yet, trying again");
            false
        }
        // Nodes wait for it in vain until someone mends that.
        Err(status) => {
            tracing::warn!(%key, error = %status, "the API server refuses a config map or secret that a node has a use for: CloudCore needs the right to get it; trying again");
            false
        }
    };
    if !is_here {
        tokio::time::sleep(AGAIN).await;
    }
    key
}

async fn text(cluster: &Cluster, key: &ObjectKey) -> Result<Arrived, Status> {
    let path = key.api_path().ok_or_else(|| Status::bad_request(format!("{key} has no path")))?;
    let object = cluster.get(&path).await?;
    Ok(Arrived::read(key.kind.clone(), &Meta::of(&object), object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use kube::client::Body;
    use message::{Json, ObjectKind};
    use serde_json::{Value, json};

    fn arrived(kind: ObjectKind, object: &Value) -> Arrived {
        let object = Json::of(object);
        Arrived::read(kind, &Meta::of(&object), object)
    }

    fn secret(name: &str) -> Value {
        json!({"kind": "Secret", "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "3"}})
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_is_fetched_once_a_pod_refers_to_it_and_again_after_a_failure() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                assert_eq!(request.uri().path(), "/api/v1/namespaces/d/secrets/used");
                let answer = if first { "" } else { &secret("used").to_string() };
                let status = if first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                let answer =
                    Response::builder().status(status).body(Full::<bytes::Bytes>::from(answer.to_owned()));
                answer.map_err(std::io::Error::other)
            }
        });
        let cluster = Cluster::with_client(kube::Client::new(service, "default"));
        let (downstream, stop) = (Downstream::default(), CancellationToken::new());
        let fetching = tokio::spawn(fetch_missing(downstream.clone(), cluster, stop.clone()));
        for name in ["used", "idle"] {
            downstream.change(|placement| placement.put(arrived(ObjectKind::Secret, &secret(name))));
        }
        tokio::time::sleep(AGAIN).await;
        assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody has a use for them");
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "p"},
            "spec": {"nodeName": "e1", "volumes": [{"secret": {"secretName": "used"}}]}});
        downstream.change(|placement| placement.put(arrived(ObjectKind::Pod, &pod)));
        tokio::time::sleep(AGAIN * 3).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let mut set: Vec<String> =
            downstream.read(|graph| graph.set_of("e1").iter().map(|wanted| wanted.key.to_string()).collect());
        set.sort();
        assert_eq!(set, ["d/pod/p", "d/secret/used"]);
        stop.cancel();
        fetching.await.unwrap().unwrap();
    }
}
