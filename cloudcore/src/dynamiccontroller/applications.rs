//! Applications: requests of the MetaServers of KubeEdge's edges, which come as messages (docs/protocol/transport.md 1.9).
//!
//! A KubeEdge cloud carries them out with its own rights unless its hub authorises messages; here they are always the node's, and
//! go the way of [`Requests::for_the_node`]. One node's are limited in number where its session keeps order
//! (`message::Asked`), in time and size here.

use std::time::Duration;

use apimachinery::path::is_discovery;
use futures_util::future::BoxFuture;
use http::{Request, header};
use http_body_util::BodyExt as _;
use message::{Application, Applications as All, Asked, NodeName, Status, WATCH};
use tokio::sync::Semaphore;

use super::watches::Watches;
use super::{BODY, Requests};

/// Time for an application. A KubeEdge edge waits as long (`edge/pkg/metamanager/metaserver/agent`).
const DEADLINE: Duration = Duration::from_secs(10);
/// Most of an answer, which is in memory until its node has read it.
const ANSWER: usize = 8 * 1024 * 1024;
/// Answers larger than a part of it are read a few at a time.
const LARGE: usize = 1024 * 1024;
static LARGE_ONES: Semaphore = Semaphore::const_new(8);

/// Carries out applications. Clones share the connections and the watches.
#[derive(Clone)]
pub struct Applications {
    requests: Requests,
    watches: Watches,
}

impl Applications {
    pub fn new(requests: Requests, watches: Watches) -> Applications {
        Applications { requests, watches }
    }

    /// Carries out what `node` asks; the answer.
    pub fn answer<'a>(&'a self, node: &'a NodeName, asked: &'a Asked) -> BoxFuture<'a, Asked> {
        Box::pin(self.answered(node, asked))
    }

    async fn answered(&self, node: &NodeName, asked: &Asked) -> Asked {
        match asked {
            Asked::One(application) => {
                let application = application.as_ref().clone();
                let done = tokio::time::timeout(DEADLINE, self.carry_out(node, &application)).await;
                let late = |_| {
                    Err(Status::new(
                        504,
                        "Timeout",
                        format!("the API server did not answer within {DEADLINE:?}"),
                    ))
                };
                let done = done.unwrap_or_else(late);
                if let Err(status) = &done {
                    tracing::debug!(%node, operation = application.about(), error = %status, "application rejected");
                }
                Asked::One(Box::new(match done {
                    Ok(body) => application.approved(body),
                    Err(status) => application.rejected(status),
                }))
            }
            Asked::Watches(watches) => Asked::Watches(self.watch(node, watches).await),
        }
    }

    /// Watches what `watches` say and nothing else; those that could not be begun.
    async fn watch(&self, node: &NodeName, watches: &All) -> All {
        self.watches.end_all_but(node, |id| watches.contains_key(id));
        let until = tokio::time::Instant::now() + DEADLINE;
        let mut failed = All::new();
        for (id, application) in watches {
            let begun = tokio::time::timeout_at(until, self.begin(node, application)).await;
            let late = |_| Err(Status::new(504, "Timeout", "there was no time left for this watch"));
            if let Err(status) = begun.unwrap_or_else(late) {
                tracing::warn!(%node, operation = application.about(), error = %status, "watch of a node not begun");
                failed.insert(id.clone(), application.clone().rejected(status));
            }
        }
        failed
    }

    async fn begin(&self, node: &NodeName, application: &Application) -> Result<(), Status> {
        is_of(node, application)?;
        self.watches.begin(node, application).await
    }

    async fn carry_out(&self, node: &NodeName, application: &Application) -> Result<Vec<u8>, Status> {
        is_of(node, application)?;
        if application.option.bytes().len() + application.req_body.bytes().len() > BODY {
            return Err(Status::too_large(BODY));
        }
        if application.verb == WATCH {
            return self.watches.begin(node, application).await.map(|()| Vec::new());
        }
        let call = application.call(is_discovery)?;
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::ACCEPT, "application/json, */*;q=0.5")
            .header(header::USER_AGENT, "kubeedge-metaserver");
        if !call.media.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.media);
        }
        let request = request.body(()).map_err(|error| Status::new(400, "BadRequest", error.to_string()))?;
        let (parts, ()) = request.into_parts();
        let answer = self.requests.for_the_node(node, parts, call.body.into()).await?;
        let (code, body) = (answer.status(), read(answer.into_body()).await?);
        match code.is_success() {
            // KubeEdge tells nothing of what was deleted.
            true if application.verb == "delete" => Ok(Vec::new()),
            true => Ok(body),
            false => Err(refusal(code.as_u16(), &body)),
        }
    }
}

/// The node of a session speaks for itself only.
fn is_of(node: &NodeName, application: &Application) -> Result<(), Status> {
    match application.nodename == node.as_str() {
        true => Ok(()),
        false => {
            let named: String = application.nodename.chars().take(64).collect();
            Err(Status::new(403, "Forbidden", format!("node {node} may not ask as node {named:?}")))
        }
    }
}

/// A whole body of at most [`ANSWER`] bytes.
async fn read(mut body: super::Body) -> Result<Vec<u8>, Status> {
    let (mut read, mut place) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Status::new(503, "ServiceUnavailable", format!("reading the API server's answer: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > ANSWER {
            let text = format!(
                "the answer has more than {ANSWER} bytes: ask for less with limit, a namespace or a selector"
            );
            return Err(Status::new(413, "RequestEntityTooLarge", text));
        }
        if read.len() + data.len() > LARGE && place.is_none() {
            place = LARGE_ONES.acquire().await.ok();
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// The API server's own words where it has any.
fn refusal(code: u16, body: &[u8]) -> Status {
    let told = serde_json::from_slice::<Status>(body).ok().filter(|status| status.code == code);
    told.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body).trim().chars().take(500).collect::<String>();
        Status::new(code, "Unknown", text)
    })
}
