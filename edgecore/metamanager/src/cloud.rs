//! Live requests to the cloud: they need the link now, and fail at once without it.

use std::time::Duration;

use message::{Application, Applications, Asked, Reply, Request, Status, Upstream};
use tokio::sync::{mpsc, oneshot, watch};

/// Whether the cloud can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Disconnected,
    Connected,
}

/// One request on its way to EdgeHub, with the place for its answer.
#[derive(Debug)]
pub struct Call {
    /// What is answered by a message with its id.
    pub upstream: Upstream,
    pub answer: oneshot::Sender<Reply>,
}

/// Handle for live requests. Clones share the inbox of EdgeHub.
#[derive(Clone)]
pub struct Cloud {
    calls: mpsc::Sender<Call>,
    link: watch::Receiver<LinkState>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CloudCallError {
    #[error("no link to the cloud")]
    Disconnected,
    #[error("the cloud did not answer within {0:?}")]
    TimedOut(Duration),
}

/// How long an answer may take (KubeEdge's remoteQueryTimeout is 60 s; a live peer answers in milliseconds, and the
/// callers retry).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests waiting for EdgeHub. Callers are few (node status, lease, queries of starting pods).
pub const CALL_QUEUE: usize = 64;

impl Cloud {
    /// The handle and the inbox EdgeHub serves.
    pub fn channel(link: watch::Receiver<LinkState>) -> (Cloud, mpsc::Receiver<Call>) {
        let (calls, inbox) = mpsc::channel(CALL_QUEUE);
        (Cloud { calls, link }, inbox)
    }

    /// Sends a request and waits for its answer.
    pub async fn call(&self, request: Request) -> Result<Reply, CloudCallError> {
        self.ask(Upstream::Ask(request)).await
    }

    /// Has a KubeEdge cloud carry out a request of MetaServer's, with the node's rights; what it answered, which may be its
    /// refusal.
    pub async fn apply(&self, application: Application) -> Result<Result<Vec<u8>, Status>, CloudCallError> {
        let asked = Upstream::Application(Asked::One(Box::new(application)));
        Ok(match self.ask(asked).await? {
            Reply::Object(answer) => answer.parse::<Application>().map_or_else(
                |error| Err(Status::new(502, "BadGateway", error.to_string())),
                Application::into_outcome,
            ),
            Reply::Refused(status) => Err(status),
            Reply::Done | Reply::Text(_) => {
                Err(Status::new(502, "BadGateway", "the cloud answered a request with no answer"))
            }
        })
    }

    /// Tells a KubeEdge cloud all that this node watches: it ends everything else. Answers with those it could not begin.
    pub async fn watch_all(&self, watches: Applications) -> Result<Applications, CloudCallError> {
        let reply = self.ask(Upstream::Application(Asked::Watches(watches.clone()))).await?;
        let Reply::Object(failed) = reply else { return Ok(watches) };
        Ok(failed.parse().unwrap_or(watches))
    }

    async fn ask(&self, upstream: Upstream) -> Result<Reply, CloudCallError> {
        if *self.link.borrow() == LinkState::Disconnected {
            return Err(CloudCallError::Disconnected);
        }
        let (answer, reply) = oneshot::channel();
        let exchange = async {
            self.calls.send(Call { upstream, answer }).await.map_err(|_| CloudCallError::Disconnected)?;
            // The sender is dropped when the session that carried the request ends.
            reply.await.map_err(|_| CloudCallError::Disconnected)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| CloudCallError::TimedOut(ANSWER_TIMEOUT))?
    }

    /// The state of the link, to be watched: changes to `Connected` are the moment to send what was missed.
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }
}
