//! Approves the certificates that nodes serve with (`kubernetes.io/kubelet-serving`), which Kubernetes approves of nobody by itself.
//!
//! ```text
//! watch of signing requests --> check: is it the node's own, for its own names and addresses? --condition Approved--> API server
//! ```
//!
//! One replica does it for all. What does not pass is left as it is, and another approver may think otherwise.

mod check;

use std::collections::HashSet;
use std::time::Duration;

use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{self, Cluster, FromWatch, Resource, WatchEvent, WorkEnded};

const SINGLETON: &str = "serving-certificates";
/// Requests that may be waiting.
const QUEUE: usize = 256;
/// Wait before an approval that failed is tried again; others that get through shorten it.
const AGAIN: Duration = Duration::from_secs(5);
/// Tries of one approval.
const TRIES: usize = 12;
/// Refused requests that are remembered, so that each is told of once.
const REFUSED: usize = 1024;

const WHO_AM_I: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Approves while this replica leads; returns when stopped.
///
/// # Errors
/// [`WorkEnded`], as [`kubernetes::lead`]'s.
pub async fn approve_serving(cluster: Cluster, stop: CancellationToken) -> Result<(), WorkEnded> {
    let work = |stop| approve_all(cluster.clone(), stop);
    kubernetes::lead(cluster.clone(), SINGLETON, stop, work).await
}

async fn approve_all(cluster: Cluster, stop: CancellationToken) {
    let (room, mut seen) = mpsc::channel::<FromWatch>(QUEUE);
    tokio::spawn(kubernetes::feed(cluster.clone(), Resource::ServingRequests, room, stop.clone()));
    let mut refused = HashSet::new();
    while let Some(FromWatch { event, .. }) = seen.recv().await {
        let WatchEvent::Put { meta, object } = event else { continue };
        let request: Value = object.parse().unwrap_or_default();
        if !check::is_pending(&request) {
            continue;
        }
        match approve(&cluster, &meta.name, request, &stop).await {
            Outcome::Approved => {
                tracing::info!(request = meta.name, "approved a certificate that a node serves with")
            }
            Outcome::Stopped => return,
            Outcome::Failed(status) => {
                tracing::warn!(request = meta.name, error = %status, "a node's certificate could not be approved");
            }
            Outcome::Refused(why) => {
                if refused.len() >= REFUSED {
                    refused.clear();
                }
                if refused.insert(meta.uid) {
                    tracing::warn!(
                        request = meta.name,
                        why,
                        "not approved: the request waits for somebody else"
                    );
                }
            }
        }
    }
}

enum Outcome {
    Approved,
    Refused(String),
    Failed(Status),
    Stopped,
}

async fn approve(cluster: &Cluster, name: &str, request: Value, stop: &CancellationToken) -> Outcome {
    let mut request = request;
    for _ in 1..TRIES {
        let recovery = cluster.recovery();
        let tried = tokio::select! {
            biased;
            () = stop.cancelled() => return Outcome::Stopped,
            tried = attempt(cluster, name, &request) => tried,
        };
        let status = match tried {
            Ok(None) => return Outcome::Approved,
            Ok(Some(why)) => return Outcome::Refused(why),
            Err(status) if status.is_conflict() || status.is_retryable() => status,
            Err(status) => return Outcome::Failed(status),
        };
        tracing::debug!(request = name, error = %status, "approval failed, trying again");
        tokio::select! {
            biased;
            () = stop.cancelled() => return Outcome::Stopped,
            _ = tokio::time::timeout(AGAIN, recovery.after(Duration::ZERO)) => {}
        }
        match cluster.get(&path(name, "")).await.map(|now| now.parse::<Value>()) {
            Ok(Ok(now)) if check::is_pending(&now) => request = now,
            Ok(_) => return Outcome::Refused("somebody else decided".to_owned()),
            Err(status) if status.is_not_found() => return Outcome::Refused("it is gone".to_owned()),
            Err(_) => {}
        }
    }
    Outcome::Failed(Status::new(504, "Timeout", format!("{TRIES} attempts failed")))
}

/// `Ok` holds why it is not approved.
async fn attempt(cluster: &Cluster, name: &str, request: &Value) -> Result<Option<String>, Status> {
    let asked = match check::read(request) {
        Ok(asked) => asked,
        Err(why) => return Ok(Some(why)),
    };
    let node = match cluster.get(&lines::Node.path(None, &asked.node)).await {
        Ok(node) => parsed(node)?,
        Err(status) if status.is_not_found() => {
            return Ok(Some(format!("there is no node {:?}", asked.node)));
        }
        Err(status) => return Err(status),
    };
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let own = parsed(cluster.create(WHO_AM_I, &Json::of(&review)).await?)?;
    let own = own["status"]["userInfo"]["username"].as_str().unwrap_or_default();
    if let Err(why) = check::passes(&asked, request, &node, own) {
        return Ok(Some(why));
    }
    let now = daemon::clock::rfc3339(daemon::clock::now());
    let mut approved = request.clone();
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "CausewayServingCertificate",
        "message": "the node's own name and addresses", "lastUpdateTime": now, "lastTransitionTime": now,
    });
    match approved["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => approved["status"]["conditions"] = json!([condition]),
    }
    cluster.replace(&path(name, "/approval"), &Json::of(&approved)).await.map(|_| None)
}

fn path(name: &str, subresource: &str) -> String {
    format!("{}{subresource}", lines::CertificateSigningRequest.path(None, name))
}

fn parsed(object: Json) -> Result<Value, Status> {
    object.parse().map_err(|error| Status::internal(format!("the API server's answer: {error}")))
}
