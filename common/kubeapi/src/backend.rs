//! What serves the API: storage or a view of it, users and their rights, and all that writes or connects.

use std::sync::Arc;

use apimachinery::Status;
use apimachinery::rbac::Attributes;
use http::request::Parts;
use http::{HeaderMap, Request};
use tokio_util::sync::CancellationToken;

use crate::call::{Call, Question, Reader};
use crate::peer::Peer;
use crate::registry::{Computed, Elsewhere, Registry};
use crate::request::Incoming;
use crate::respond::Answer;
use crate::stored::{Event, ListQuery, Page, Replay, Stored, Subscription};
use crate::target::Target;
use crate::user::{Asker, User};

/// The half of an API server that is not HTTP. Every failure is a Status, which the client gets as it is: 503 or 504
/// where what is asked for cannot be had now. What a client is to be told beside an answer goes into the call's or
/// reader's warnings.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Its requests are counted, and `/metrics` tells of them.
    const METRICS: bool = false;

    /// What is served. A backend serves none that it does not know ([`Registry::serving`]).
    fn catalog(&self) -> &Registry;

    /// What is answered by [`Backend::compute`].
    fn computed(&self) -> &[Computed] {
        &[]
    }

    /// Who asks; `None` for who shows nothing, which is answered with 401 except on public paths (health, version).
    ///
    /// # Errors
    /// 401 for what is shown and not right, and whatever keeps the backend from knowing.
    fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<Option<Asker>, Status>> + Send;

    /// Why `user` may do this, for the audit log; may be empty.
    ///
    /// # Errors
    /// 403 if he may not.
    fn authorise(
        &self,
        user: &User,
        asked: &Attributes<'_>,
    ) -> impl Future<Output = Result<String, Status>> + Send;

    /// One object; `None`: there is none, which is answered with 404.
    ///
    /// # Errors
    /// The object cannot be had.
    fn get(
        &self,
        reader: Reader<'_>,
        target: &Target,
    ) -> impl Future<Output = Result<Option<Stored>, Status>> + Send;

    /// A page of a list, from one snapshot.
    ///
    /// # Errors
    /// The list cannot be had.
    fn list(&self, reader: Reader<'_>, query: ListQuery)
    -> impl Future<Output = Result<Page, Status>> + Send;

    /// Bytes of a part in which a long list is read and written ([`ListQuery::part`]); 0: lists are read as a whole.
    const PART: usize = 0;

    /// A further part of a list, of the revision that the first one has ([`ListQuery::at`]). Asked only where [`Backend::PART`] is
    /// not 0, once [`Backend::list`] has answered with more to come.
    ///
    /// # Errors
    /// The part cannot be had; the client's connection breaks off.
    fn part(&self, query: ListQuery) -> impl Future<Output = Result<Page, Status>> + Send {
        drop(query);
        std::future::ready(Err(Status::internal("lists of this backend have no parts")))
    }

    /// Live changes of at least what `query` is of. A watch subscribes first and lists, or asks for the revision,
    /// afterwards: no change may fall between the two.
    ///
    /// # Errors
    /// It cannot be watched.
    fn subscribe(
        &self,
        reader: Reader<'_>,
        query: &ListQuery,
    ) -> impl Future<Output = Result<Subscription, Status>> + Send;

    /// The current revision of what `query` is of, where a watch begins that wants no list.
    ///
    /// # Errors
    /// It cannot be had.
    fn revision(
        &self,
        reader: Reader<'_>,
        query: &ListQuery,
    ) -> impl Future<Output = Result<i64, Status>> + Send;

    /// Changes of the resource of `query` after `since`: asked by a watch that begins at a revision or has fallen behind.
    ///
    /// # Errors
    /// They cannot be had; the watch tells it as its last event.
    fn replay(&self, query: &ListQuery, since: i64) -> impl Future<Output = Result<Replay, Status>> + Send;

    /// An object of an event in the version that `query` names; `None`: it is as it is. Lists are in that version already.
    ///
    /// # Errors
    /// It cannot be had in that version; the watch tells it as its last event.
    fn shown(
        &self,
        query: &ListQuery,
        stored: &Stored,
    ) -> impl Future<Output = Result<Option<Stored>, Status>> + Send {
        let _ = (query, stored);
        std::future::ready(Ok(None))
    }

    /// The object as it was before `event` changed it, with the resource version of the change. Watches ask where an object ceases to
    /// be chosen by their selectors. `None`: it is not known, and the object is told as it is.
    ///
    /// # Errors
    /// It cannot be had; the watch tells it as its last event.
    fn before(&self, event: &Event) -> impl Future<Output = Result<Option<Stored>, Status>> + Send {
        let _ = event;
        std::future::ready(Ok(None))
    }

    /// Every change of what `query` is of, up to this revision, is in the channels of its subscribers.
    fn announced(&self, query: &ListQuery) -> i64;

    /// Answers all that is not get, list or watch: what writes, connects, or reads a subresource of another kind.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    fn answer(call: Call<'_, Self>, body: Incoming) -> impl Future<Output = Result<Answer, Status>> + Send;

    /// Answers a request for one of [`Backend::computed`].
    ///
    /// # Errors
    /// As for [`Backend::answer`].
    fn compute(
        question: Question<'_, Self>,
        body: Incoming,
    ) -> impl Future<Output = Result<Answer, Status>> + Send {
        drop((question, body));
        std::future::ready(Err(Status::no_such_path()))
    }

    /// Answers a GET of a path that belongs to no API group and is not one of health, version or OpenAPI. `user` may do it.
    ///
    /// # Errors
    /// 404 for a path that is not served.
    fn plain(&self, user: &User, parts: &Parts) -> impl Future<Output = Result<Answer, Status>> + Send {
        let _ = (user, parts);
        std::future::ready(Err(Status::no_such_path()))
    }

    /// Answers a GET of discovery, OpenAPI or the version in place of what is made of the catalogue. `user` is `None` for
    /// paths that anyone may ask for.
    ///
    /// # Errors
    /// What the client is told instead; `Ok(None)`: the catalogue answers.
    fn document(
        &self,
        user: Option<&User>,
        parts: &Parts,
    ) -> impl Future<Output = Result<Option<Answer>, Status>> + Send {
        let _ = (user, parts);
        std::future::ready(Ok(None))
    }

    /// Versions of groups that other servers serve, as discovery tells of them: the preferred ones of a group first.
    fn elsewhere(&self) -> Vec<Elsewhere> {
        vec![]
    }

    /// True for a version of a group that another server serves, which may be one of the catalogue's.
    fn is_elsewhere(&self, group: &str, version: &str) -> bool {
        let _ = (group, version);
        false
    }

    /// Has such a request, of a (group, version), answered by that server. `user` may do it.
    ///
    /// # Errors
    /// 503 where that server cannot be asked.
    fn hand_on(
        backend: &Arc<Self>,
        of: (&str, &str),
        user: &User,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Status>> + Send {
        let _ = (backend, of, user);
        drop(request);
        std::future::ready(Err(Status::no_such_path()))
    }

    /// Ends watches.
    fn stop(&self) -> &CancellationToken;

    /// Takes note of the size of a request and of its answer, as far as they are known.
    fn moved(&self, bytes: u64) {
        let _ = bytes;
    }
}
