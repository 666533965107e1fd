//! Writes that wait for the cloud, in memory as they are in the database; `queueing` fills it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::Status;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use kubeapi::user::User;
use tokio::sync::watch;

use crate::caller::Caller;
use crate::queue::{Author, QueuedWrites, Write};

type Waiting = Arc<Vec<(i64, Write)>>;

/// What is queued, and by whose leave.
pub(crate) struct Queue {
    pub declared: QueuedWrites,
    /// Answers to requests for tokens are kept.
    pub keeps_tokens: bool,
    pub told: watch::Sender<Waiting>,
    /// Held by who takes a write or carries one out; how often the first one stumbled.
    pub turn: tokio::sync::Mutex<(i64, u32)>,
    /// By user: the newest token that he showed while a write of his waits, and one that the cloud does not take any more.
    tokens: Mutex<HashMap<String, Tokens>>,
}

#[derive(Default)]
struct Tokens {
    shown: Option<HeaderValue>,
    refused: Option<HeaderValue>,
}

impl Queue {
    pub(crate) fn new(declared: QueuedWrites, keeps_tokens: bool) -> Queue {
        let (told, turn, tokens) = Default::default();
        Queue { declared, keeps_tokens, told, turn, tokens }
    }

    /// What waits, and its changes.
    pub(crate) fn waiting(&self) -> watch::Receiver<Waiting> {
        self.told.subscribe()
    }

    /// A write of this user waits.
    pub(crate) fn has_of(&self, user: &str) -> bool {
        let is_his =
            |(_, write): &(i64, Write)| write.author.as_ref().is_some_and(|author| author.user == user);
        self.told.borrow().iter().any(is_his)
    }

    /// A user showed a token that is good: what waits of him is carried out with it.
    pub(crate) fn shows(&self, user: &User, headers: &HeaderMap) {
        if self.has_of(&user.name)
            && let Some(token) = headers.get(AUTHORIZATION)
        {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.entry(user.name.clone()).or_default().shown = Some(token.clone());
        }
    }

    /// As whom a write is carried out; `None`: no token of his is good now, and it waits until he shows one.
    pub(crate) fn caller(&self, author: &Author, now: i64) -> Option<Caller> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tokens.get(&author.user);
        let written = author.token.as_deref().and_then(|token| HeaderValue::from_str(token).ok());
        let all = known.and_then(|known| known.shown.clone()).into_iter().chain(written);
        let refused = known.and_then(|known| known.refused.as_ref());
        let mut good = all.filter(|token| Some(token) != refused).map(|token| {
            let user = User { name: author.user.clone(), ..User::default() };
            Caller::of(&user, &HeaderMap::from_iter([(AUTHORIZATION, token)]))
        });
        good.find(|caller| caller.is_good(now))
    }

    /// The cloud does not take what `caller` showed.
    pub(crate) fn refuse(&self, caller: &Caller) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(caller.name.clone()).or_default().refused = caller.token().cloned();
    }

    /// Forgets tokens of who has nothing waiting.
    pub(crate) fn tidy(&self) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|user, _| self.has_of(user));
    }
}

/// The write is refused: the cloud has not allowed it before.
pub(crate) fn unknown_right(user: &str, resource: &str, name: &str) -> Status {
    let text = format!(
        "{user:?} has not changed {resource} {name:?} through this node before, and it is cut off from the cloud, which \
         would say whether he may"
    );
    Status::new(403, "Forbidden", text)
}
