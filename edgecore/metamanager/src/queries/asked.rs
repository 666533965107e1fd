//! Which objects the cloud is being asked for. Whoever wants one that is asked for already waits for the same answer: a
//! KubeEdge cloud keeps one unacknowledged message per object and node, so that the answers to two questions would take
//! each other's place and all but one asker wait in vain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use message::Json;
use tokio::sync::watch;

use super::QueryError;

type Answer = Result<Json, QueryError>;
/// None until it is there; closed without it if the asking task failed.
pub(super) type Awaited = watch::Receiver<Option<Answer>>;

/// Questions under way, by path.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<HashMap<String, Awaited>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to the question for `path`, which `ask` puts if nobody did. It goes on when its askers have gone: one
    /// more question would only take the place of this one's answer.
    pub(super) fn join<F>(&self, path: &str, ask: impl FnOnce() -> F) -> Awaited
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut asked = self.lock();
        if let Some(awaited) = asked.get(path) {
            return awaited.clone();
        }
        let (answered, awaited) = watch::channel(None);
        asked.insert(path.to_owned(), awaited.clone());
        let (question, under_way) = (ask(), UnderWay { asked: self.clone(), path: path.to_owned() });
        tokio::spawn(async move {
            let answer = question.await;
            // Who comes now asks anew.
            drop(under_way);
            answered.send_replace(Some(answer));
        });
        awaited
    }
}

/// A question, until it is dropped.
struct UnderWay {
    asked: Asked,
    path: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.asked.lock().remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CloudCallError;

    #[tokio::test]
    async fn a_question_is_put_once_while_it_is_under_way_and_again_after_a_fault() {
        let asked = Asked::default();
        let nobody = || CloudCallError::Disconnected;
        let lost = asked.join("d/secret/s", || async { panic!("a fault of a test") });
        let mut joined = asked.join("d/secret/s", || async { unreachable!("it is under way") });
        assert!(joined.wait_for(Option::is_some).await.is_err());
        drop(lost);
        let refused = async move { Err(QueryError::Unreachable { path: "s".to_owned(), source: nobody() }) };
        let mut anew = asked.join("d/secret/s", || refused);
        let answer = anew.wait_for(Option::is_some).await.unwrap().clone();
        assert!(matches!(answer, Some(Err(QueryError::Unreachable { .. }))));
        assert!(asked.lock().is_empty());
    }
}
