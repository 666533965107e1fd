//! Approves the certificates that nodes serve with (`kubernetes.io/kubelet-serving`), which Kubernetes approves of nobody by itself.
//!
//! ```text
//! watch of signing requests --> check: is it the node's own, for its own names and addresses? --condition Approved--> API server
//!              ^ again later         |
//!              '--- waiting <-------' its node, or what the node is called, is not known yet; the API server failed
//! ```
//!
//! One replica does it for all, several requests at once. What waits holds no turn, so that it holds up nobody. What does not
//! pass is left as it is, and another approver may think otherwise.

mod check;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::HashSet;

use apimachinery::kinds::lines;
use message::{Json, Status};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{self, Cluster, FromWatch, Resource, WatchEvent, WorkEnded};
use check::{Asked, Refusal};
use waiting::{Job, Waiting};

const SINGLETON: &str = "serving-certificates";
/// Requests that may be waiting for a turn; the watch waits beyond.
const QUEUE: usize = 256;
/// Requests that are looked at at once.
const AT_ONCE: usize = 8;
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
    let (mut waiting, mut told) = (Waiting::default(), Told::default());
    let mut under_way = JoinSet::new();
    loop {
        let has_turn = under_way.len() < AT_ONCE;
        let next = waiting.next();
        let (job, request) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(done) = under_way.join_next() => {
                match done {
                    Ok((job, outcome)) => conclude(job, outcome, &mut waiting, &mut told),
                    Err(error) => tracing::error!(error = %error, "a look at a signing request broke off"),
                }
                continue;
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if has_turn && next.is_some() => {
                match waiting.take_due(Instant::now()) {
                    Some(job) => (job, None),
                    None => continue,
                }
            }
            seen = seen.recv(), if has_turn => {
                let Some(FromWatch { event, .. }) = seen else { return };
                let WatchEvent::Put { meta, object } = event else { continue };
                let request: Value = object.parse().unwrap_or_default();
                if !check::is_pending(&request) {
                    continue;
                }
                (Job::new(&meta.name), Some(request))
            }
        };
        let cluster = cluster.clone();
        under_way.spawn(async move {
            let outcome = look(&cluster, &job.request, request).await;
            (job, outcome)
        });
    }
}

/// What came of one look at a request. Who waits is named by its node.
enum Outcome {
    Approved,
    /// It was decided by somebody else, or is gone.
    Settled,
    Refused {
        uid: String,
        why: String,
    },
    /// It may pass once its node has told more of itself.
    NotYet {
        node: String,
        uid: String,
        why: String,
    },
    /// Another attempt may help.
    Failed {
        node: String,
        status: Status,
    },
    /// None will.
    Rejected(Status),
}

fn conclude(job: Job, outcome: Outcome, waiting: &mut Waiting, told: &mut Told) {
    let request = job.request.clone();
    match outcome {
        Outcome::Approved => tracing::info!(request, "approved a certificate that a node serves with"),
        Outcome::Settled => {}
        Outcome::Refused { uid, why } => {
            if told.is_new(uid) {
                tracing::warn!(request, why, "not approved: the request waits for somebody else");
            }
        }
        Outcome::NotYet { node, uid, why } => {
            if told.is_new(uid) {
                tracing::warn!(request, why, "not approved yet: it is looked at again");
            }
            waiting.not_yet(node, job, Instant::now());
        }
        Outcome::Failed { node, status } => {
            tracing::debug!(request, error = %status, "approval failed, trying again");
            if !waiting.failed(node, job, Instant::now()) {
                tracing::warn!(request, error = %status, "a node's certificate could not be approved");
            }
        }
        Outcome::Rejected(status) => {
            tracing::warn!(request, error = %status, "a node's certificate could not be approved");
        }
    }
}

/// Requests of which it was told why they are not approved, by uid.
#[derive(Default)]
struct Told(HashSet<String>);

impl Told {
    fn is_new(&mut self, uid: String) -> bool {
        if self.0.len() >= REFUSED {
            self.0.clear();
        }
        self.0.insert(uid)
    }
}

/// Looks at a request once; `seen` is what the watch showed, if it was the watch.
async fn look(cluster: &Cluster, name: &str, seen: Option<Value>) -> Outcome {
    let request = match seen {
        Some(request) => request,
        None => match cluster.get(&path(name, "")).await.and_then(parsed) {
            Ok(request) if check::is_pending(&request) => request,
            Ok(_) => return Outcome::Settled,
            Err(status) if status.is_not_found() => return Outcome::Settled,
            // Its node is not known here; the name stands for it.
            Err(status) => return failed(name, status),
        },
    };
    let uid = request["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let asked = match check::read(&request) {
        Ok(asked) => asked,
        Err(why) => return Outcome::Refused { uid, why },
    };
    match attempt(cluster, name, &asked, request).await {
        Ok(None) => Outcome::Approved,
        Ok(Some(Refusal::Final(why))) => Outcome::Refused { uid, why },
        Ok(Some(Refusal::NotYet(why))) => Outcome::NotYet { node: asked.node, uid, why },
        Err(status) if status.is_not_found() => Outcome::Settled,
        Err(status) => failed(&asked.node, status),
    }
}

fn failed(node: &str, status: Status) -> Outcome {
    match status.is_conflict() || status.is_retryable() {
        true => Outcome::Failed { node: node.to_owned(), status },
        false => Outcome::Rejected(status),
    }
}

/// `Ok` holds why it is not approved.
async fn attempt(
    cluster: &Cluster,
    name: &str,
    asked: &Asked,
    request: Value,
) -> Result<Option<Refusal>, Status> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let own = parsed(cluster.create(WHO_AM_I, &Json::of(&review)).await?)?;
    let own = own["status"]["userInfo"]["username"].as_str().unwrap_or_default();
    if let Err(why) = check::is_made_for_its_node(asked, &request, own) {
        return Ok(Some(why));
    }
    let node = match cluster.get(&lines::Node.path(None, &asked.node)).await {
        Ok(node) => parsed(node)?,
        Err(status) if status.is_not_found() => {
            return Ok(Some(Refusal::NotYet(format!("there is no node {:?}", asked.node))));
        }
        Err(status) => return Err(status),
    };
    if let Err(why) = check::names_its_node(asked, &node) {
        return Ok(Some(why));
    }
    let now = daemon::clock::rfc3339(daemon::clock::now());
    let mut approved = request;
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
