//! get, list and watch.

use std::time::Duration;

use apimachinery::Status;
use apimachinery::listing::{Asked as _, Continue, ListOptions, State, WatchOptions};
use serde_json::json;

use crate::backend::Backend;
use crate::call::Call;
use crate::parts::Items;
use crate::respond::{self, Answer};
use crate::stored::ListQuery;
use crate::target::Target;
use crate::watch::{Options, Watch};

pub(crate) async fn get<B: Backend>(call: Call<'_, B>) -> Result<Answer, Status> {
    if call.query.flag("watch") {
        return list(call).await;
    }
    let wanted = call.query.resource_version()?;
    if wanted > 0 {
        let current = call.backend.revision(call.reader(), &scope(&call)?).await?;
        if wanted > current {
            return Err(Status::too_large_version(wanted, current));
        }
    }
    let stored = call.backend.get(call.reader(), &call.target).await?;
    let stored = stored.ok_or_else(|| call.target.not_found())?;
    call.answer(200, &stored)
}

/// True if a GET of the target's subresource reads the whole object.
pub(crate) fn is_whole(target: &Target) -> bool {
    match target.subresource.as_str() {
        "" => true,
        "status" => target.served.version().status,
        "ephemeralcontainers" | "resize" => target.served.is_core("pods"),
        "approval" => target.served.resource.plural == "certificatesigningrequests",
        _ => false,
    }
}

/// Longest a watch lives when the client does not say.
const WATCH: Duration = Duration::from_secs(3600);

/// What a list or watch is of.
fn scope<B: Backend>(call: &Call<'_, B>) -> Result<ListQuery, Status> {
    let (labels, mut fields) = call.query.selectors(&call.target.served)?;
    if !call.target.name.is_empty() {
        let selector = format!("metadata.name={}", call.target.name);
        fields =
            apimachinery::FieldSelector::parse(&selector).map_err(|e| Status::bad_request(e.to_string()))?;
    }
    Ok(ListQuery {
        resource: call.target.served.resource.key(),
        api_version: call.target.served.api_version(),
        namespace: Some(call.target.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        labels,
        fields,
        ..ListQuery::default()
    })
}

pub(crate) async fn list<B: Backend>(call: Call<'_, B>) -> Result<Answer, Status> {
    let mut scope = scope(&call)?;
    if call.query.flag("watch") {
        return watch(call, scope).await;
    }
    let ListOptions { state, limit, continued } = ListOptions::read(&call.query)?;
    let renderer = call.renderer()?;
    scope.limit = limit;
    scope.after = continued.as_ref().map(|continued| continued.after.clone());
    scope.at = match state {
        State::Exactly(revision) => Some(revision),
        State::NotOlderThan(_) => None,
    };
    let one_namespace = scope.namespace.clone();
    if let (Some((namespace, _)), Some(one)) = (&mut scope.after, &one_namespace) {
        namespace.clone_from(one);
    }
    let in_parts = limit == 0 && renderer.takes_parts() && B::PART > 0;
    if in_parts {
        scope.part = B::PART;
    }
    let asked = in_parts.then(|| scope.clone());
    let page = match (call.backend.list(call.reader(), scope).await, &continued) {
        (Err(status), Some(continued)) if status.code == 410 => return Ok(expired(continued)),
        (page, _) => page?,
    };
    if let State::NotOlderThan(wanted) = state
        && wanted > page.revision
    {
        return Err(Status::too_large_version(wanted, page.revision));
    }
    if let Some(query) = asked.filter(|_| page.more) {
        let revision = page.revision;
        let backend = call.backend.clone();
        let ask = move |query| {
            let backend = backend.clone();
            tokio::spawn(async move { backend.part(query).await })
        };
        let items = Items::in_parts(Box::new(ask), query, page);
        return renderer.list_in_parts(revision, items).await;
    }
    let token = match page.items.last().filter(|_| page.more) {
        Some(last) => {
            // Of one namespace, names are enough.
            let namespace = one_namespace.map_or_else(|| last.key.namespace.clone(), |_| String::new());
            let after = (namespace, last.key.name.clone());
            Continue { revision: Some(page.revision), after }.token()
        }
        None => String::new(),
    };
    renderer.list(page, &token).await
}

/// The state of the first page is gone: the client may go on with what is there now.
fn expired(continued: &Continue) -> Answer {
    let (status, token) = continued.expired();
    let mut told = status.to_json();
    told["metadata"] = json!({ "continue": token });
    respond::json(status.code, &told)
}

async fn watch<B: Backend>(call: Call<'_, B>, scope: ListQuery) -> Result<Answer, Status> {
    let WatchOptions { start, bookmarks, timeout } = WatchOptions::read(&call.query)?;
    let timeout = timeout.map_or(WATCH, Duration::from_secs).min(4 * WATCH);
    let watch = Watch::open(&call, scope, Options { start, bookmarks, timeout }).await?;
    let content_type = watch.content_type();
    Ok(respond::stream(watch.into_body(), content_type))
}
