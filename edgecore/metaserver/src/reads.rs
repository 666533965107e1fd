//! get, list and watch: what the cloud answers, kept for later; and what is answered while it cannot be asked.
//!
//! ```text
//! connected: the cloud answers, as its caller ---> kept, with the right that it shows
//!            any age will do, the right was shown a moment ago, a view follows the cloud: from that
//! cut off:   has he the right? --no--> 403
//!            the newest of: complete lists that hold it, what was got, what the node holds --none--> 503
//! ```

use apimachinery::Status;
use apimachinery::listing::Continue;
use apimachinery::rbac::{Attributes, What};
use daemon::clock::{rfc3339, unix_seconds};
use kubeapi::Reader;
use kubeapi::stored::{ListQuery, Page, Stored, Subscription};
use kubeapi::target::Target;
use store::StoreError;

use crate::ask::{self, Failure, Unreached};
use crate::backend::Shared;
use crate::caller::Caller;
use crate::object::{self, List};
use crate::scope::{self, Scope};
use crate::tables::{Right, State, trouble};
use crate::views::unknown;

fn stored(error: StoreError) -> Status {
    trouble(&error)
}

fn unreadable(error: &object::BadObject) -> Status {
    Status::new(502, "BadGateway", error.to_string())
}

/// `pods`, `deployments.apps`
fn resource(scope: &Scope) -> String {
    match scope.group() {
        "" => scope.plural().to_owned(),
        group => format!("{}.{group}", scope.plural()),
    }
}

/// The right to list a scope. A list of one name is another right than of all, and so is that of the pods of a node, which the Node
/// authorizer allows to it.
fn to_list(caller: &Caller, scope: &Scope, query: &ListQuery) -> Right {
    to_read("list", caller, scope, query)
}

/// The same for `list` and `watch`.
fn to_read(verb: &'static str, caller: &Caller, scope: &Scope, query: &ListQuery) -> Right {
    let of_node = query.fields.pinned(NODE_NAME).map(|node| format!("{NODE_NAME}={node}"));
    let of_one = query.fields.pinned("metadata.name").map(str::to_owned);
    Right {
        user: caller.name.clone(),
        verb,
        resource: resource(scope),
        namespace: scope.namespace.clone().unwrap_or_default(),
        name: of_one.or(of_node).unwrap_or_default(),
    }
}

const NODE_NAME: &str = "spec.nodeName";

fn forbidden(right: &Right, scope: &Scope) -> Status {
    let what = What::Resource {
        group: scope.group(),
        resource: scope.plural(),
        subresource: right.resource.split_once('/').map_or("", |(_, subresource)| subresource),
        namespace: &right.namespace,
        name: &right.name,
    };
    let mut status = Attributes::new(right.verb, what).forbidden(&right.user);
    status.message.push_str(": this node is cut off from the cloud, which has not allowed it before");
    status
}

impl Shared {
    /// What the client is told beside a stale answer. `seen`: when it was the newest, in Unix seconds.
    fn warn(&self, reader: Reader<'_>, seen: Option<i64>) {
        let time = |seconds: i64| jiff::Timestamp::from_second(seconds).map(rfc3339).unwrap_or_default();
        let since = match self.cut.load(std::sync::atomic::Ordering::Relaxed) {
            0 => String::new(),
            cut => format!(" since {}", time(cut)),
        };
        let of = match seen {
            Some(seen) => format!("this is the state of {}", time(seen)),
            None => "this is what the node holds".to_owned(),
        };
        reader.warnings.add(format!("the cloud cannot be asked{since}: {of}"));
    }

    /// Takes note of the cloud's word about a right.
    async fn note(&self, right: &Right, answer: Result<(), &Status>) -> Result<(), Status> {
        let noted = match answer {
            Ok(()) => {
                self.recent.allow(right);
                self.tables.allow(right, unix_seconds()).await
            }
            Err(status) => match status.code {
                401 => {
                    self.recent.disown(&right.user);
                    self.tables.disown(&right.user).await
                }
                403 => {
                    self.recent.deny(right);
                    self.tables.deny(right).await
                }
                _ => Ok(()),
            },
        };
        noted.map_err(stored)
    }

    pub(crate) async fn object(&self, reader: Reader<'_>, target: &Target) -> Result<Option<Stored>, Status> {
        let caller = Caller::of(reader.user, reader.headers);
        let scope = Scope::of_object(target);
        let mut right = Right {
            user: caller.name.clone(),
            verb: "get",
            resource: resource(&scope),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
        };
        if !target.subresource.is_empty() {
            right.resource = format!("{}/{}", right.resource, target.subresource);
        }
        if let Some(state) = self.object_at_hand(reader, (&scope, &right), target).await? {
            return Ok(state);
        }
        let path = scope::object_path(target);
        match ask::whole(&*self.upstream, Some(&caller), &path, "application/json").await {
            Ok(body) => {
                self.note(&right, Ok(())).await?;
                let text = String::from_utf8_lossy(&body);
                let read = object::stored(&scope.resource, scope.group(), &text);
                let read = read.map_err(|error| unreadable(&error))?;
                self.tables.keep(&scope.api_version, &read, unix_seconds()).await.map_err(stored)?;
                Ok(Some(read))
            }
            Err(Failure::Refused(status)) if status.code == 404 => {
                self.note(&right, Ok(())).await?;
                self.tables.forget(&scope.api_version, &target.key()).await.map_err(stored)?;
                Err(status)
            }
            Err(Failure::Refused(status)) => {
                self.note(&right, Err(&status)).await?;
                Err(status)
            }
            Err(Failure::Unreached(_)) => self.stale_object(reader, &caller, (&scope, &right), target).await,
        }
    }

    /// An object for which any state will do that is as new as the client knows, from a view that follows the cloud; `None`: the cloud
    /// is to be asked. `Some(None)`: it is not there.
    async fn object_at_hand(
        &self,
        reader: Reader<'_>,
        (scope, right): (&Scope, &Right),
        target: &Target,
    ) -> Result<Option<Option<Stored>>, Status> {
        let Some(revision) = reader.not_older.filter(|_| target.subresource.is_empty()) else {
            return Ok(None);
        };
        let view = self.views.in_step(scope).filter(|_| self.recent.may(right));
        let Some(view) = view else { return Ok(None) };
        let found = self.tables.member(&view, &target.key()).await.map_err(stored)?;
        Ok(found.filter(|(known, _)| known.revision >= revision).map(|(_, found)| found))
    }

    /// The same of a list.
    async fn list_at_hand(
        &self,
        reader: Reader<'_>,
        caller: &Caller,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Option<State>, Status> {
        let is_whole = query.at.is_none() && query.after.is_none();
        let Some(revision) = reader.not_older.filter(|_| is_whole) else { return Ok(None) };
        let view = self.views.in_step(scope).filter(|_| self.recent.may(&to_list(caller, scope, query)));
        let Some(view) = view else { return Ok(None) };
        let state = self.views.chosen(&view, query).await?;
        Ok(state.filter(|state| state.known.revision >= revision))
    }

    /// The newest that is known of an object.
    async fn stale_object(
        &self,
        reader: Reader<'_>,
        caller: &Caller,
        (scope, right): (&Scope, &Right),
        target: &Target,
    ) -> Result<Option<Stored>, Status> {
        let is_allowed = self.tables.may(right).await.map_err(stored)?;
        let is_own = caller.is_node() && self.is_own(scope, target).await?;
        if !is_allowed && !is_own {
            return Err(forbidden(right, scope));
        }
        let Some((seen, found)) = self.newest(scope, target, is_allowed || is_own).await? else {
            let text = format!(
                "this node is cut off from the cloud, and knows nothing of {} {:?}",
                right.resource, target.name
            );
            return Err(Status::unavailable(text));
        };
        self.warn(reader, seen);
        Ok(found)
    }

    /// True for what the node holds for its own work, and for its pods.
    async fn is_own(&self, scope: &Scope, target: &Target) -> Result<bool, Status> {
        if self.held.get(scope, &target.name).await?.is_some() {
            return Ok(true);
        }
        if !target.served.is_core("pods") {
            return Ok(false);
        }
        let listed = self.tables.anywhere(scope, &target.key()).await.map_err(stored)?;
        let pod = listed.map(|(pod, _)| pod.value()).transpose()?;
        Ok(pod.is_some_and(|pod| pod["spec"]["nodeName"] == self.users.node))
    }

    /// The newest that is known of an object, and when it was (Unix seconds): of what clients got if `is_allowed`, and of what the
    /// node holds. `Some(_, None)`: there is none; `None`: nothing is known.
    pub(crate) async fn newest(
        &self,
        scope: &Scope,
        target: &Target,
        is_allowed: bool,
    ) -> Result<Option<(Option<i64>, Option<Stored>)>, Status> {
        let held = self.held.get(scope, &target.name).await?;
        let key = target.key();
        // (revision, when it was the newest, the object or that there is none)
        let mut best: Option<(i64, Option<i64>, Option<Stored>)> = None;
        let mut offer = |revision: i64, seen: Option<i64>, found: Option<Stored>| {
            if best.as_ref().is_none_or(|(known, ..)| revision > *known) {
                best = Some((revision, seen, found));
            }
        };
        if is_allowed {
            for wider in scope.wider() {
                let member = self.tables.member(&wider, &key).await.map_err(stored)?;
                if let Some((known, found)) = member {
                    // What is in no complete list is gone, as of that list.
                    let revision = found.as_ref().map_or(known.revision, |found| found.revision);
                    offer(revision, Some(known.seen), found);
                }
            }
            let kept = self.tables.kept(&scope.api_version, &key).await.map_err(stored)?;
            // That it is in some list is known as well, if not that it is in none.
            let listed = self.tables.anywhere(scope, &key).await.map_err(stored)?;
            for (found, seen) in kept.into_iter().chain(listed) {
                offer(found.revision, Some(seen), Some(found));
            }
        }
        if let Some(found) = held {
            offer(found.revision, None, Some(found));
        }
        Ok(best.map(|(_, seen, found)| (seen, found)))
    }

    /// A page of a list in the cloud.
    async fn ask_list(
        &self,
        caller: &Caller,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Result<List, Unreached>, Status> {
        let right = to_list(caller, scope, query);
        let (limit, revision) = (query.limit.to_string(), query.at.unwrap_or_default().to_string());
        let continued = query.after.as_ref().map(|(namespace, name)| {
            // Of one namespace, names are enough.
            let namespace = if scope.namespace.is_some() { String::new() } else { namespace.clone() };
            Continue { revision: query.at, after: (namespace, name.clone()) }.token()
        });
        let mut more = Vec::new();
        if query.limit > 0 {
            more.push(("limit", limit.as_str()));
        }
        match (&continued, query.at) {
            (Some(token), _) => more.push(("continue", token)),
            (None, Some(_)) => {
                more.extend([("resourceVersion", revision.as_str()), ("resourceVersionMatch", "Exact")]);
            }
            (None, None) => {}
        }
        let path = scope.path(&more);
        match ask::whole(&*self.upstream, Some(caller), &path, "application/json").await {
            Ok(body) => {
                self.note(&right, Ok(())).await?;
                let list = object::list(&scope.resource, scope.group(), &body);
                list.map(Ok).map_err(|error| unreadable(&error))
            }
            Err(Failure::Refused(status)) => {
                self.note(&right, Err(&status)).await?;
                Err(status)
            }
            Err(Failure::Unreached(unreached)) => Ok(Err(unreached)),
        }
    }

    pub(crate) async fn page(&self, reader: Reader<'_>, query: ListQuery) -> Result<Page, Status> {
        let caller = Caller::of(reader.user, reader.headers);
        let scope = Scope::of(&query);
        if query.begins_watch {
            // The watch was authorised when it subscribed.
            let state = self.views.state(&query).await?.ok_or_else(|| unknown(&scope))?;
            if !self.is_connected() {
                self.warn(reader, Some(state.known.seen));
            }
            return of_state(state, &query);
        }
        if let Some(state) = self.list_at_hand(reader, &caller, &scope, &query).await? {
            return of_state(state, &query);
        }
        match self.ask_list(&caller, &scope, &query).await? {
            Ok(list) => {
                let more = !list.continued.is_empty();
                let List { revision, remaining, items, .. } = list;
                if !more && query.after.is_none() && query.at.is_none() {
                    self.views.keep(&scope, items.clone(), revision).await.map_err(stored)?;
                }
                Ok(Page { items, revision, more, remaining })
            }
            Err(_) => self.stale_page(reader, &caller, &scope, &query).await,
        }
    }

    async fn stale_page(
        &self,
        reader: Reader<'_>,
        caller: &Caller,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Page, Status> {
        let right = to_list(caller, scope, query);
        let is_allowed = self.tables.may(&right).await.map_err(stored)?;
        let pods = if is_allowed || caller.is_node() { self.held.pods(query).await? } else { None };
        if !is_allowed && pods.is_none() {
            return Err(forbidden(&right, scope));
        }
        let state = if is_allowed { self.views.state(query).await? } else { None };
        match (state, pods) {
            (Some(state), _) => {
                self.warn(reader, Some(state.known.seen));
                of_state(state, query)
            }
            (None, Some(items)) => {
                self.warn(reader, None);
                let revision = items.iter().map(|pod| pod.revision).max().unwrap_or(0);
                Ok(Page { items, revision, more: false, remaining: None })
            }
            (None, None) => Err(unknown(scope)),
        }
    }

    pub(crate) async fn watch(&self, reader: Reader<'_>, query: &ListQuery) -> Result<Subscription, Status> {
        let caller = Caller::of(reader.user, reader.headers);
        let scope = Scope::of(query);
        self.may_watch(&caller, &scope, query).await?;
        let subscription = self.views.watch(query, caller).await?;
        if !self.is_connected() {
            let seen = self.tables.known(&scope).await.map_err(stored)?.map(|known| known.seen);
            self.warn(reader, seen);
        }
        Ok(subscription)
    }

    /// 403 unless the cloud lets `caller` watch: it is asked by a watch of his, which is left at once. While it cannot be asked, what it
    /// said before counts.
    async fn may_watch(&self, caller: &Caller, scope: &Scope, query: &ListQuery) -> Result<(), Status> {
        let right = to_read("watch", caller, scope, query);
        // What is there already is not to be told again. Any state will do: without a revision, kube-apiserver waits until it has the
        // newest one, for seconds where its etcd does not tell it (`storage/cacher`).
        let since = self.views.of(query).map_or(0, |view| view.reached()).to_string();
        let path = scope.path(&[("watch", "1"), ("timeoutSeconds", "1"), ("resourceVersion", &since)]);
        match ask::stream(&*self.upstream, caller, &path).await {
            Ok(_) => self.note(&right, Ok(())).await,
            Err(Failure::Refused(status)) => {
                self.note(&right, Err(&status)).await?;
                Err(status)
            }
            Err(Failure::Unreached(_)) => match self.tables.may(&right).await.map_err(stored)? {
                true => Ok(()),
                false => Err(forbidden(&right, scope)),
            },
        }
    }
}

/// A page of a complete state.
fn of_state(state: State, query: &ListQuery) -> Result<Page, Status> {
    let State { known, mut items } = state;
    if query.at.is_some_and(|at| at != known.revision) {
        return Err(Status::expired(format!(
            "too old resource version: {} ({})",
            query.at.unwrap_or_default(),
            known.revision
        )));
    }
    if let Some((namespace, name)) = &query.after {
        items.retain(|stored| (&stored.key.namespace, &stored.key.name) > (namespace, name));
    }
    let rest = match query.limit {
        0 => 0,
        limit => items.len().saturating_sub(limit),
    };
    items.truncate(items.len() - rest);
    let is_plain = query.labels.is_everything() && query.fields.is_everything();
    let remaining = (rest > 0 && is_plain).then(|| i64::try_from(rest).unwrap_or(i64::MAX));
    Ok(Page { items, revision: known.revision, more: rest > 0, remaining })
}

#[cfg(test)]
mod tests {
    use kubeapi::stored::Key;

    use super::*;
    use crate::tables::Known;

    fn state(names: &[&str]) -> State {
        let item =
            |name: &&str| Stored { key: Key::new("configmaps", "n", name), revision: 1, body: "{}".into() };
        State { known: Known { id: 1, revision: 7, seen: 0 }, items: names.iter().map(item).collect() }
    }

    fn names(page: &Page) -> Vec<&str> {
        page.items.iter().map(|stored| stored.key.name.as_str()).collect()
    }

    #[test]
    fn pages_of_a_state_are_of_one_revision_and_another_one_is_gone() {
        let query = ListQuery { limit: 2, ..ListQuery::default() };
        let first = of_state(state(&["a", "b", "c"]), &query).unwrap();
        assert_eq!((names(&first), first.more, first.remaining), (vec!["a", "b"], true, Some(1)));
        let after = Some(("n".to_owned(), "b".to_owned()));
        let next = ListQuery { after, at: Some(7), ..query };
        let second = of_state(state(&["a", "b", "c"]), &next).unwrap();
        assert_eq!((names(&second), second.more, second.remaining), (vec!["c"], false, None));
        assert_eq!(of_state(state(&[]), &ListQuery { at: Some(6), ..next }).unwrap_err().code, 410);
    }
}
