//! Pods that this node would refuse by a node object that may be older than they are: the cloud is asked for the node
//! first. Refused is refused for good, so a pod rather waits, as long as the cloud cannot be asked.

use std::collections::HashMap;
use std::time::Duration;

use message::{Json, ObjectKey, ObjectKind};
use tokio::task::{JoinError, JoinSet};

use super::Pods;
use metamanager::QueryError;
use podmodel::errors::chain;

/// After an answer that said nothing. A link that comes back asks at once.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Unsure {
    /// By uid.
    pods: HashMap<String, Waiting>,
    /// The question for the node, at most one.
    question: JoinSet<Result<Json, QueryError>>,
}

struct Waiting {
    key: ObjectKey,
    object: Json,
    /// The question under way was put after the pod came.
    is_asked: bool,
}

/// The cloud's answer to the question for the node.
pub(super) type Answer = Result<Result<Json, QueryError>, JoinError>;

impl Unsure {
    pub(super) fn contains(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    pub(super) fn forget(&mut self, key: &ObjectKey, uid: Option<&str>) {
        self.pods.retain(|known, waiting| waiting.key != *key || uid.is_some_and(|uid| uid != known));
    }

    /// None if nothing was asked.
    pub(super) async fn answered(&mut self) -> Option<Answer> {
        self.question.join_next().await
    }
}

impl Pods {
    /// The pod waits for the cloud's word about the node.
    pub(super) fn hold_back(&mut self, uid: String, key: ObjectKey, object: Json) {
        self.unsure.pods.insert(uid, Waiting { key, object, is_asked: false });
        if self.unsure.question.is_empty() {
            self.ask_for_node(Duration::ZERO);
        }
    }

    fn ask_for_node(&mut self, pause: Duration) {
        self.unsure.pods.values_mut().for_each(|waiting| waiting.is_asked = true);
        let queries = self.context.queries.clone();
        let key = ObjectKey::new(None, ObjectKind::Node, self.context.base.settings.node.as_str());
        let question = async move {
            tokio::time::sleep(pause).await;
            queries.fresh(key).await
        };
        self.unsure.question.spawn(question);
    }

    /// The node object is another: who was held back asks again.
    pub(super) fn node_changed(&mut self, node: &Json) {
        self.admitter.node_changed(node);
        for (_, waiting) in std::mem::take(&mut self.unsure.pods) {
            self.put(waiting.key, waiting.object);
        }
    }

    /// There may be an answer now.
    pub(super) fn ask_again(&mut self) {
        if !self.unsure.pods.is_empty() {
            self.unsure.question.abort_all();
            self.unsure.question.detach_all();
            self.ask_for_node(Duration::ZERO);
        }
    }

    pub(super) fn node_told(&mut self, answer: Answer) {
        let is_known = match answer {
            Ok(Ok(node)) => {
                self.admitter.node_changed(&node);
                true
            }
            // Then the node is what it registers as.
            Ok(Err(error)) if error.is_not_found() => true,
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "pods wait for the node object");
                false
            }
            Err(error) => {
                tracing::error!(error = %error, "asking for the node object failed");
                false
            }
        };
        let (asked, later): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut self.unsure.pods).into_iter().partition(|(_, pod)| is_known && pod.is_asked);
        self.unsure.pods = later;
        for (_, waiting) in asked {
            self.place(waiting.key, waiting.object, true);
        }
        if !self.unsure.pods.is_empty() && self.unsure.question.is_empty() {
            self.ask_for_node(if is_known { Duration::ZERO } else { AGAIN });
        }
    }
}
